package live

import (
	"fmt"
	"sync"
	"testing"

	"xentrace/internal/event"
)

// In a storm of packets what happens to flows stays in sight.
func TestAStormLeavesTheRestInSight(t *testing.T) {
	var l log
	l.change(&event.FlowEvent{Flow: sampleFlow(0)})
	for i := range 10 * keptEntries {
		l.packet(samplePacket(i))
	}
	l.say(sampleTime, "eth1 was detached")
	entries := l.last(10)
	if len(entries) != 10 || entries[0].change == nil || entries[9].sentence != "eth1 was detached" {
		t.Fatalf("%d entries, the first %+v, the last %+v", len(entries), entries[0], entries[len(entries)-1])
	}
	for i, e := range entries[1:9] {
		if want := 19 + 10*keptEntries - 8 + i; e.packet == nil || e.packet.Slots != want {
			t.Errorf("entry %d is %+v, want the packet of %d slots", i+1, e.packet, want)
		}
	}
}

func TestTheLogIsBounded(t *testing.T) {
	var l log
	for i := range 3 * keptEntries {
		l.packet(samplePacket(i))
		l.say(sampleTime, fmt.Sprint(i))
	}
	entries := l.last(10 * keptEntries)
	if len(entries) != 2*keptEntries {
		t.Fatalf("%d entries", len(entries))
	}
	first, last := entries[0], entries[len(entries)-1]
	if first.packet == nil || first.packet.Slots != 19+2*keptEntries || last.sentence != fmt.Sprint(3*keptEntries-1) {
		t.Errorf("from %+v to %+v", first.packet, last.sentence)
	}
}

func TestTheLogTakesFromManySides(t *testing.T) {
	var l log
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 1000 {
				l.packet(samplePacket(i))
				l.say(sampleTime, "x")
				if n := len(l.last(20)); n > 20 {
					t.Errorf("%d entries", n)
				}
			}
		})
	}
	wait.Wait()
	if l.number != 8000 {
		t.Errorf("%d noted", l.number)
	}
}

// What a packet costs the reader of the ring, next to a drawing screen.
func BenchmarkPacket(b *testing.B) {
	var l log
	p := samplePacket(1)
	for b.Loop() {
		l.packet(p)
	}
}

func BenchmarkFrame(b *testing.B) {
	m := sampleModel(3, 500)
	for b.Loop() {
		m.frame(200, 60)
	}
}
