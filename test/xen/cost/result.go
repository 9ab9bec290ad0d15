package cost

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// A Result is what was measured of one row; the guest writes one object a line. All
// costs are instructions.
type Result struct {
	Kernel  string               `json:"kernel"` // uname -r
	Row     string               `json:"row"`
	Packets map[Traffic]*Samples `json:"packets,omitempty"`
	Start   *Start               `json:"start,omitempty"`
	Report  *Report              `json:"report,omitempty"`
	Missing string               `json:"missing,omitempty"` // why this kernel has no such row
}

// Samples are the instructions per packet of each round: the median of its bursts.
type Samples struct {
	With    []float64 `json:"with"`
	Without []float64 `json:"without"` // nothing attached, in rounds before and after
}

// Samples returns those of a kind of packet, to add to.
func (r *Result) Samples(kind Traffic) *Samples {
	if r.Packets[kind] == nil {
		r.Packets[kind] = &Samples{}
	}
	return r.Packets[kind]
}

// Start is what starting a command takes.
type Start struct {
	Instructions []int64 `json:"instructions"` // of the process, from fork to its ready file
	Elapsed      []int64 `json:"elapsed"`      // nanoseconds of the machine's clock, waits included
	SteadyKiB    int     `json:"steady_kib"`   // VmRSS after its packets were sent and 5 s had passed
	PeakKiB      int     `json:"peak_kib"`     // VmHWM then
}

// Report is what each reported packet costs.
type Report struct {
	Packets   int   `json:"packets"`
	BPF       int64 `json:"bpf"`       // instructions of all its BPF programs, per packet
	Userspace int64 `json:"userspace"` // of the process, kernel work on its behalf included
}

// Read returns the results in a log, in which other lines may stand, too.
func Read(file string) ([]Result, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []Result
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var r Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no results", file)
	}
	return all, nil
}
