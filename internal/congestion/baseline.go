package congestion

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"xentrace/internal/event"
)

type earlier struct {
	Type             string   `json:"type"`
	Ifname           string   `json:"ifname"`
	PacketsPerSecond *float64 `json:"packets_per_second"`
	FullShare        *float64 `json:"full_share"`
	CompletionMeanUs *float64 `json:"completion_mean_us"`
	SmallPacketShare *float64 `json:"small_packet_share"`
	BytesPerSlot     *float64 `json:"bytes_per_slot"`
	CPU              *struct {
		HottestBusyShare *float64 `json:"hottest_busy_share"`
		StealShare       *float64 `json:"steal_share"`
	} `json:"cpu"`
	TCP *struct {
		AcceptsPerSecond     *float64 `json:"accepts_per_second"`
		EstablishedPerSecond *float64 `json:"established_per_second"`
		ListenOverflows      *float64 `json:"listen_overflows"`
	} `json:"tcp"`
}

// A Baseline is an earlier run: its last report of each interface.
type Baseline map[string]earlier

// errNoBaseline means that a file holds no report.
var errNoBaseline = errors.New("no line of type congestion in it: write one with xentrace congestion -o json")

// ReadBaseline reads what an earlier run wrote as JSON. Lines of other types are
// left out.
func ReadBaseline(from io.Reader) (Baseline, error) {
	all := make(Baseline)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var e earlier
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if e.Type == "congestion" {
			all[e.Ifname] = e
		}
	}
	if err := lines.Err(); err != nil {
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
		{Key: "packets_per_second", Before: e.PacketsPerSecond, Now: value(r.Rate(r.Total.Packets))},
		{Key: "full_share", Before: e.FullShare, Now: full},
		{Key: "completion_mean_us", Before: e.CompletionMeanUs, Now: latency},
		{Key: "small_packet_share", Before: e.SmallPacketShare, Now: value(r.Total.SmallShare())},
		{Key: "bytes_per_slot", Before: e.BytesPerSlot, Now: value(r.Total.BytesPerSlot())},
	}
	if e.CPU != nil {
		changes = append(changes, event.Change{Key: "hottest_busy_share", Before: e.CPU.HottestBusyShare, Now: busy}, event.Change{Key: "steal_share", Before: e.CPU.StealShare, Now: steal})
	}
	if e.TCP != nil {
		changes = append(changes, event.Change{Key: "accepts_per_second", Before: e.TCP.AcceptsPerSecond, Now: accepts},
			event.Change{Key: "established_per_second", Before: e.TCP.EstablishedPerSecond, Now: established},
			event.Change{Key: "listen_overflows", Before: e.TCP.ListenOverflows, Now: overflows})
	}
	return changes
}
