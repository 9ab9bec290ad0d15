package congestion

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"xentrace/internal/event"
)

type earlier struct {
	Type             string  `json:"type"`
	Ifname           string  `json:"ifname"`
	PacketsPerSecond *figure `json:"packets_per_second"`
	FullShare        *figure `json:"full_share"`
	CompletionMeanUs *figure `json:"completion_mean_us"`
	SmallPacketShare *figure `json:"small_packet_share"`
	BytesPerSlot     *figure `json:"bytes_per_slot"`
	CPU              *struct {
		HottestBusyShare *figure `json:"hottest_busy_share"`
		StealShare       *figure `json:"steal_share"`
	} `json:"cpu"`
	TCP *struct {
		AcceptsPerSecond     *figure `json:"accepts_per_second"`
		EstablishedPerSecond *figure `json:"established_per_second"`
		ListenOverflows      *figure `json:"listen_overflows"`
	} `json:"tcp"`
}

// A figure is a number that a run can have measured.
type figure float64

// maxFigure is over every rate, time and share there can be.
const maxFigure = 1e15

func (f *figure) UnmarshalJSON(text []byte) error {
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(value >= 0 && value <= maxFigure) {
		return fmt.Errorf("%s was not measured: it must be a number from 0 to %g", text, float64(maxFigure))
	}
	*f = figure(value)
	return nil
}

const (
	// maxBaselineLine is more than a report of 1,024 queues has.
	maxBaselineLine = 1 << 20
	// maxBaselines bounds the interfaces of which a report is kept, and maxIfname their names.
	maxBaselines = 4096
	maxIfname    = 15
)

// A Baseline is an earlier run: its last report of each interface.
type Baseline map[string]earlier

// errNoBaseline reports that a file holds no report.
var errNoBaseline = errors.New("no line of type congestion in it: write one with xentrace congestion -o json")

// ReadBaseline reads what an earlier run wrote as JSON. Lines of other types are
// left out.
func ReadBaseline(from io.Reader) (Baseline, error) {
	all := make(Baseline)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxBaselineLine)
	for n := 1; lines.Scan(); n++ {
		var e earlier
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if e.Type != "congestion" || len(e.Ifname) > maxIfname {
			continue
		}
		if all[e.Ifname] = e; len(all) > maxBaselines {
			return nil, fmt.Errorf("line %d: over %d interfaces", n, maxBaselines)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line of over %d bytes", maxBaselineLine)
	case err != nil:
		return nil, err
	}
	if len(all) == 0 {
		return nil, errNoBaseline
	}
	return all, nil
}

// Changes compares a report with the earlier one of the same interface. It is
// nil if there is none.
func (b Baseline) Changes(r *event.CongestionReport) []event.Change {
	e, there := b[r.Name]
	if !there {
		return nil
	}
	value := func(v float64) *float64 { return &v }
	var full, latency, busy, steal, accepts, established, overflows *float64
	if r.Total.Full != nil {
		full = value(r.FullShare())
	}
	if r.Total.MeanLatency != nil {
		latency = value(float64(r.Total.MeanLatency.Microseconds()))
	}
	if r.CPU != nil {
		busy, steal = value(r.CPU.HottestBusy), value(r.CPU.Steal)
	}
	if r.TCP != nil {
		established = value(r.Rate(r.TCP.Established))
		if r.TCP.Accepts != nil {
			accepts = value(r.Rate(*r.TCP.Accepts))
		}
		if r.TCP.Overflows != nil {
			overflows = value(float64(*r.TCP.Overflows))
		}
	}
	changes := []event.Change{
		{Key: "packets_per_second", Before: (*float64)(e.PacketsPerSecond), Now: value(r.Rate(r.Total.Packets))},
		{Key: "full_share", Before: (*float64)(e.FullShare), Now: full},
		{Key: "completion_mean_us", Before: (*float64)(e.CompletionMeanUs), Now: latency},
		{Key: "small_packet_share", Before: (*float64)(e.SmallPacketShare), Now: value(r.Total.SmallShare())},
		{Key: "bytes_per_slot", Before: (*float64)(e.BytesPerSlot), Now: value(r.Total.BytesPerSlot())},
	}
	if e.CPU != nil {
		changes = append(changes, event.Change{Key: "hottest_busy_share", Before: (*float64)(e.CPU.HottestBusyShare), Now: busy}, event.Change{Key: "steal_share", Before: (*float64)(e.CPU.StealShare), Now: steal})
	}
	if e.TCP != nil {
		changes = append(changes, event.Change{Key: "accepts_per_second", Before: (*float64)(e.TCP.AcceptsPerSecond), Now: accepts},
			event.Change{Key: "established_per_second", Before: (*float64)(e.TCP.EstablishedPerSecond), Now: established},
			event.Change{Key: "listen_overflows", Before: (*float64)(e.TCP.ListenOverflows), Now: overflows})
	}
	return changes
}
