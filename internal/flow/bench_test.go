package flow

import (
	"testing"

	"xentrace/internal/event"
)

// What a record costs that goes through the table: of one flow that is dropped again
// and again, and of as many flows as there is room for.
func BenchmarkAdd(b *testing.B) {
	for name, flows := range map[string]int{"one flow": 1, "full table": DefaultLimit} {
		b.Run(name, func(b *testing.B) {
			table := NewTable(0, nil)
			packets := make([]*event.Packet, flows)
			for i := range packets {
				packets[i] = (&sender{port: uint16(i), address: uint64(i) + 1, una: 1}).drop(0, 1)
				table.Add(packets[i])
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.Add(packets[i%flows])
			}
		})
	}
}

// What choosing whom to ask costs with fifty connections that hang.
func BenchmarkPoll(b *testing.B) {
	k := newFakeKernel()
	table := NewTable(0, k)
	for port := uint16(1); port <= 50; port++ {
		s := &sender{port: port, address: uint64(port), una: 1}
		table.Add(s.drop(0, 1))
		table.Add(s.drop(1, 1))
		k.stands(s.address, 2, 1, 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		table.Poll(at(2))
	}
}

// What a picture of a full table costs.
func BenchmarkSnapshot(b *testing.B) {
	table := NewTable(0, nil)
	for port := range uint16(DefaultLimit) {
		table.Add((&sender{port: port, address: uint64(port) + 1, una: 1}).drop(0, 1))
	}
	b.ReportAllocs()
	for b.Loop() {
		table.Snapshot(at(1))
	}
}
