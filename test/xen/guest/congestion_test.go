//go:build xenlab

package guest

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/congestion"
	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/output"
	"xentrace/internal/verdict"
)

// pressure is what was measured while a load ran, in quiet before and after.
type pressure struct {
	report        event.CongestionReport
	judgment      event.Judgment
	sent          uint64
	packets       uint64 // by the interface's counters
	bytes         uint64
	before, after []congestion.Ring
	full          int // samples of a ring, while the load ran, that had no space
	samples       int
	most          uint32  // slots in use, in any sample
	steal         float64 // by /proc/stat
}

func measure(t *testing.T, l load, lasts time.Duration) *pressure {
	t.Helper()
	m, err := congestion.Start(t.Context(), congestion.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	p := &pressure{}
	i := m.Interfaces()[0]
	rings := func() []congestion.Ring {
		r, err := m.Rings(i)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	settled(t, rings)
	p.before, p.packets, p.bytes = rings(), counter(t, "tx_packets"), counter(t, "tx_bytes")
	before, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ticks, all := stolen(t)
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.sent = l(ctx, t)
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(20 * time.Millisecond):
			for _, r := range rings() {
				p.samples++
				p.most = max(p.most, r.InUse())
				if r.InUse() >= event.UsableSlots {
					p.full++
				}
			}
		}
	}
	settled(t, rings)
	p.after, p.packets, p.bytes = rings(), counter(t, "tx_packets")-p.packets, counter(t, "tx_bytes")-p.bytes
	now, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.report = m.Reports(before, now)[0]
	ticksNow, allNow := stolen(t)
	p.steal = (ticksNow - ticks) / (allNow - all)
	machine := &facts.Cache{}
	p.judgment = verdict.OfCongestion(&p.report, machine.Of(event.Device{Name: p.report.Name, Index: p.report.Index, NetNS: p.report.NetNS}))
	text := &output.Text{Width: func() int { return 80 }}
	t.Logf("%d sent\n%s", p.sent, text.AppendCongestion(nil, &event.Congestion{Report: &p.report, Judgment: p.judgment}))
	return p
}

// settled waits until nothing is sent any more and every ring is empty.
func settled(t *testing.T, rings func() []congestion.Ring) {
	t.Helper()
	last := counter(t, "tx_packets")
	for still, tries := 0, 0; still < 5; tries++ {
		if tries > 600 {
			t.Fatal("the interface does not come to rest")
		}
		time.Sleep(50 * time.Millisecond)
		busy := slices.ContainsFunc(rings(), func(r congestion.Ring) bool { return r.InUse() > 0 })
		if now := counter(t, "tx_packets"); now != last || busy {
			still, last = 0, now
			continue
		}
		still++
	}
}

// agrees compares what was counted with the driver's counters and the ring's indices.
func (p *pressure) agrees(t *testing.T) {
	t.Helper()
	r, total := &p.report, &p.report.Total
	if total.Packets != p.packets || total.Bytes != p.bytes || total.Packets == 0 {
		t.Errorf("%d packets, %d bytes: the interface counted %d and %d", total.Packets, total.Bytes, p.packets, p.bytes)
	}
	if r.Sizes.Count() != total.Packets || r.Slots.Count() != total.Packets {
		t.Errorf("histograms of %d and %d for %d packets", r.Sizes.Count(), r.Slots.Count(), total.Packets)
	}
	if total.Full == nil || total.Notifications == nil || total.Copied == nil || r.TCP == nil || r.TCP.Accepts == nil {
		t.Fatalf("not measured: %v", r.Missing)
	}
	if !driverTypes() {
		for _, key := range []string{"occupancy", "completion_us", "pps_bound"} {
			if !strings.Contains(r.Missing[key], "BTF") {
				t.Errorf("%s is missing for %q", key, r.Missing[key])
			}
		}
		return
	}
	var requests, responses uint64
	for q := range p.after {
		requests += uint64(p.after[q].Requests - p.before[q].Requests)
		responses += uint64(p.after[q].Responses - p.before[q].Responses)
	}
	if total.Slots != requests || total.Responses == nil || *total.Responses != responses || requests != responses {
		t.Errorf("%d slots, %v responses: the driver's indices moved by %d and %d", total.Slots, total.Responses, requests, responses)
	}
	// Each CPU counts its packets to the next that is timed.
	timed, cpus := total.Packets/event.CompletionSample, uint64(runtime.NumCPU())
	if total.Occupancy.Count() != total.Packets || total.Completed+cpus < timed || total.Completed > timed+cpus || total.Latency.Count() != total.Completed {
		t.Errorf("occupancy of %d, latency of %d packets, %d completed, of %d: want %d within %d", total.Occupancy.Count(), total.Latency.Count(), total.Completed, total.Packets, timed, cpus)
	}
	if *total.Notifications == 0 || *total.Notifications > total.Packets || *total.Runs == 0 || *total.Runs > responses {
		t.Errorf("%d notifications, %d runs for %d packets", *total.Notifications, *total.Runs, total.Packets)
	}
	if b := r.Bound; b == nil || b.PacketsPerSecond <= 0 || b.Share <= 0 {
		t.Errorf("bound %+v", r.Bound)
	}
}

// is checks what the limit is said to be. The guest shares its emulated CPUs with
// dom0 and whatever else runs on the machine: steal is one more limit when the kernel's
// own counters say so, and not when they do not.
func (p *pressure) is(t *testing.T, want ...event.LimitID) {
	t.Helper()
	var got []event.LimitID
	stolen := false
	for _, limit := range p.judgment.Limits {
		if limit.ID == event.LimitSteal {
			stolen = true
			continue
		}
		got = append(got, limit.ID)
	}
	if stolen && len(got) == 0 {
		got = []event.LimitID{event.LimitNone}
	}
	if !slices.Equal(got, want) {
		t.Errorf("limits %v, want %v", got, want)
	}
	if p.steal > 0.15 && !stolen || p.steal < 0.05 && stolen {
		t.Errorf("steal is reported as a limit: %v, and /proc/stat has %.2f", stolen, p.steal)
	}
}

// stolen reads the ticks that were stolen from all CPUs, and all ticks.
func stolen(t *testing.T) (ticks, all float64) {
	t.Helper()
	line, _, _ := strings.Cut(readFile(t, "/proc/stat"), "\n")
	for n, field := range strings.Fields(line)[1:9] {
		value := float64(atoi(t, field))
		if all += value; n == 7 {
			ticks = value
		}
	}
	return ticks, all
}

// Two loads: everything is counted as the driver and its ring count it, and no figure
// of a histogram is lost.
func TestCongestionAgrees(t *testing.T) {
	t.Run("flood", func(t *testing.T) {
		p := measure(t, flood(2), 3*time.Second)
		p.agrees(t)
		if share := p.report.Total.SmallShare(); share != 1 {
			t.Errorf("%v of the packets are small, want all", share)
		}
		if driverTypes() && uint64(p.most) > 2*p.report.Total.Occupancy.Quantile(1) {
			t.Errorf("%d slots in use in a sample, and at most %d at a packet", p.most, p.report.Total.Occupancy.Quantile(1))
		}
	})
	t.Run("requests", func(t *testing.T) {
		p := measure(t, requests(netip.AddrPortFrom(peerAddr(t, "ipv4"), echoPort), 4, 0), 3*time.Second)
		p.agrees(t)
		var missed uint64 // changes of state while another one's program was interrupted
		if p.report.Missed != nil {
			missed = *p.report.Missed
		}
		tcp := p.report.TCP
		if p.sent == 0 || tcp.Opened > p.sent || tcp.Opened+missed < p.sent || tcp.Closed > p.sent || tcp.Closed+missed < p.sent || *tcp.Accepts != 0 {
			t.Errorf("%+v, %d missed, want %d opened and closed", tcp, missed, p.sent)
		}
		if r := p.report.Receive; r == nil || r.Packets < 3*p.sent || r.Polls == 0 || r.Polls > 3*r.Packets {
			t.Errorf("received %+v for %d requests", r, p.sent)
		}
	})
	// The kernel queues a connection before its state changes: another CPU may accept it first.
	// Under emulation that CPU may be stopped in between, so three rounds may be made.
	t.Run("accepts", func(t *testing.T) {
		for round := 1; ; round++ {
			untimed := acceptsOf(t, 7070+round)
			if untimed <= 2 {
				break
			}
			if round == 3 {
				t.Fatalf("%d accepts without a time that no skipped program run explains", untimed)
			}
		}
	})
}

// acceptsOf has 200 connections accepted at a port, and returns how many have no time though the
// program that takes it was not skipped.
func acceptsOf(t *testing.T, port int) (untimed uint64) {
	t.Helper()
	const requests, clients = 200, 4
	accepted := tcpCounter(t, "PassiveOpens")
	p := measure(t, served(port, requests, clients), 3*time.Second)
	accepted = tcpCounter(t, "PassiveOpens") - accepted
	p.agrees(t)
	tcp := p.report.TCP
	if p.sent != requests || *tcp.Accepts != p.sent || accepted != p.sent || tcp.Accept.Count() > p.sent {
		t.Errorf("%d accepted, times of %d, for %d requests of dom0's and %d of the kernel's own count", *tcp.Accepts, tcp.Accept.Count(), p.sent, accepted)
	}
	untimed = p.sent - min(p.sent, tcp.Accept.Count())
	if p.report.Missed != nil {
		untimed -= min(untimed, *p.report.Missed)
	}
	t.Logf("%d of %d accepts without a time that no skipped program run explains", untimed, p.sent)
	return untimed
}
