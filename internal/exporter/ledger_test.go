package exporter

import (
	"maps"
	"testing"
	"time"

	"xentrace/internal/event"
)

var start = time.Date(2026, 11, 27, 2, 10, 0, 0, time.UTC)

// life is what was counted of one interface: index and namespace identify it.
func life(index int, name string, packets uint64, gone bool) event.InterfaceTotals {
	n := event.InterfaceTotals{
		Device: event.Device{Name: name, Index: index, NetNS: 7}, Driver: "xen-netfront", Gone: gone,
		Counts: event.Counts{Packets: packets, Bytes: 100 * packets},
	}
	n.Slots[1] = packets
	if index == 0 {
		n.NetNS = 0
	}
	return n
}

func reading(second int, lives ...event.InterfaceTotals) event.Totals {
	return event.Totals{Time: start.Add(time.Duration(second) * time.Second), Interfaces: lives}
}

// packets returns what a ledger has counted, by device.
func packets(l *ledger) map[string]uint64 {
	all := make(map[string]uint64)
	for _, n := range l.sum.Interfaces {
		all[n.Name] = n.Packets
	}
	return all
}

func TestCountersNeverGoBack(t *testing.T) {
	for name, test := range map[string]struct {
		limit    int
		readings []event.Totals
		want     map[string]uint64
		without  int
	}{
		"nothing moves": {10, []event.Totals{
			reading(1, life(2, "eth0", 5, false)),
			reading(2, life(2, "eth0", 5, false)),
		}, map[string]uint64{"eth0": 5}, 0},
		"removed and there again": {10, []event.Totals{
			reading(1, life(2, "eth0", 5, false)),
			reading(2, life(2, "eth0", 8, true), life(3, "eth0", 4, false)),
			reading(3, life(2, "eth0", 8, true), life(3, "eth0", 6, true), life(4, "eth0", 1, false)),
		}, map[string]uint64{"eth0": 15}, 0},
		"a life between two readings": {10, []event.Totals{
			reading(1, life(2, "eth0", 5, false)),
			reading(2, life(2, "eth0", 5, true), life(3, "eth0", 7, true), life(4, "eth0", 1, false)),
		}, map[string]uint64{"eth0": 13}, 0},
		"renamed": {10, []event.Totals{
			reading(1, life(2, "eth0", 5, false)),
			reading(2, life(2, "lan", 9, false)),
			reading(3, life(2, "lan", 10, false)),
		}, map[string]uint64{"eth0": 5, "lan": 5}, 0},
		"gone for long, and listed with others": {10, []event.Totals{
			reading(1, life(2, "eth0", 5, true), life(3, "eth1", 3, false)),
			reading(2, life(3, "eth1", 4, false), life(0, "(others)", 6, false)),
			reading(3, life(3, "eth1", 4, false), life(0, "(others)", 6, false)),
		}, map[string]uint64{"eth0": 5, "eth1": 4, "(others)": 1}, 0},
		"a counter that is read too low": {10, []event.Totals{
			reading(1, life(2, "eth0", 5, false)),
			reading(2, life(2, "eth0", 4, false)),
		}, map[string]uint64{"eth0": 5}, 0},
		"more interfaces than accounts": {2, []event.Totals{
			reading(1, life(2, "eth0", 5, false), life(3, "eth1", 3, false), life(4, "eth2", 2, false)),
			reading(2, life(2, "eth0", 5, true), life(3, "eth1", 3, false), life(4, "eth2", 7, false), life(5, "eth3", 1, false)),
			reading(3, life(2, "eth0", 5, true), life(3, "eth1", 4, false), life(4, "eth2", 8, true), life(5, "eth3", 1, false)),
		}, map[string]uint64{"eth0": 5, "eth1": 4, "(others)": 9}, 1},
		"the name of the others": {10, []event.Totals{
			reading(1, life(2, "(others)", 5, false), life(3, "eth1", 3, false)),
		}, map[string]uint64{"eth1": 3, "(others)": 5}, 1},
		"a name that is not UTF-8": {10, []event.Totals{
			reading(1, life(2, "e\xff", 5, false), life(3, "e\xfe", 3, false)),
		}, map[string]uint64{`e\xff`: 5, `e\xfe`: 3}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(test.limit, start)
			before := map[string]uint64{}
			for _, r := range test.readings {
				l.add(r)
				now := packets(l)
				for device, n := range before {
					if now[device] < n {
						t.Errorf("%s went back from %d to %d", device, n, now[device])
					}
				}
				before = now
			}
			if !maps.Equal(before, test.want) {
				t.Errorf("counted %v, want %v", before, test.want)
			}
			if l.without != test.without {
				t.Errorf("%d interfaces without series, want %d", l.without, test.without)
			}
		})
	}
}

func TestPresence(t *testing.T) {
	l := newLedger(10, start)
	l.add(reading(1, life(2, "eth0", 5, true), life(3, "eth0", 1, false), life(4, "eth1", 1, true)))
	for device, want := range map[string]bool{"eth0": true, "eth1": false} {
		if got := l.present[l.accounts[key{7, device}]]; got != want {
			t.Errorf("%s is present: %v, want %v", device, got, want)
		}
	}
}

// What an interface counted before it was read first was counted after the reading before.
func TestBeginnings(t *testing.T) {
	l := newLedger(10, start)
	l.add(reading(10, life(2, "eth0", 5, false)))
	l.add(reading(20, life(2, "eth0", 5, false), life(3, "eth1", 1, false)))
	for device, want := range map[string]time.Time{"eth0": start, "eth1": start.Add(10 * time.Second)} {
		if got := l.began[l.accounts[key{7, device}]]; !got.Equal(want) {
			t.Errorf("%s began at %s, want %s", device, got, want)
		}
	}
}

// Unmonitored time grows while an interval lasts, and stays when the wall clock is set back.
func TestUnmonitoredTime(t *testing.T) {
	l := newLedger(10, start)
	gap := event.Gap{From: start, Reason: event.GapDriverUnloaded}
	for _, step := range []struct {
		second int
		ended  int // 0: it lasts
		want   time.Duration
	}{{2, 0, 2 * time.Second}, {5, 0, 5 * time.Second}, {4, 0, 5 * time.Second}, {9, 6, 6 * time.Second}, {20, 6, 6 * time.Second}} {
		r := reading(step.second)
		r.Gaps = []event.Gap{gap}
		if step.ended != 0 {
			r.Gaps[0].To = start.Add(time.Duration(step.ended) * time.Second)
		}
		if l.add(r); l.closed != step.want {
			t.Errorf("after %d s: %s, want %s", step.second, l.closed, step.want)
		}
	}
}
