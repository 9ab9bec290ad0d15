package verdict

import (
	"slices"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

func TestAdviceForStall(t *testing.T) {
	const off, on = remedy.Off, remedy.On
	for _, test := range []struct {
		name  string
		facts remedy.Facts
		cause event.Cause
		want  []remedy.ID
	}{
		{"jumbo frames", remedy.Facts{MTU: 9001, RecutFits: true}, event.TooManySlots, []remedy.ID{remedy.MTU1500, remedy.SinglePages, remedy.UpdateKernel}},
		{"jumbo frames of small pieces", remedy.Facts{MTU: 9001}, event.TooManySlots, []remedy.ID{remedy.SGOff, remedy.SinglePages, remedy.UpdateKernel}},
		{"jumbo frames, single pages already", remedy.Facts{MTU: 9001, RecutFits: true, SinglePages: on}, event.TooManySlots, []remedy.ID{remedy.MTU1500, remedy.UpdateKernel}},
		{"ordinary frames", remedy.Facts{MTU: 1500, RecutFits: true}, event.TooManySlots, []remedy.ID{remedy.SGOff, remedy.SinglePages, remedy.UpdateKernel}},
		{"unknown MTU", remedy.Facts{RecutFits: true}, event.TooManySlots, []remedy.ID{remedy.SGOff, remedy.SinglePages, remedy.UpdateKernel}},
		{"no memory, jumbo frames", remedy.Facts{MTU: 9001, RecutFits: true, MemoryKB: 8 << 20, MinFreeKB: 67584}, event.LinearizeFailed, []remedy.ID{remedy.MTU1500, remedy.MemoryReserve, remedy.SinglePages}},
		{"no memory, large reserve", remedy.Facts{MTU: 1500, SinglePages: off, MemoryKB: 1 << 20, MinFreeKB: 67584}, event.LinearizeFailed, []remedy.ID{remedy.SinglePages}},
		{"scatter-gather off", remedy.Facts{MTU: 1500, SG: off}, event.SGOff, []remedy.ID{remedy.SGOn}},
		{"no scatter-gather in the backend", remedy.Facts{MTU: 1500, SG: remedy.Absent}, event.SGOff, []remedy.ID{remedy.SGBackend}},
		{"no memory to bounce", remedy.Facts{MemoryKB: 4 << 20, MinFreeKB: 4096}, event.BounceFailed, []remedy.ID{remedy.MemoryReserve}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.facts.Interface = "eth0"
			var ids []remedy.ID
			for _, a := range ForStall(test.facts, test.cause) {
				ids = append(ids, remedy.ID(a.ID))
			}
			if !slices.Equal(ids, test.want) {
				t.Errorf("remedies %q, want %q", ids, test.want)
			}
		})
	}
}

func TestRecutFits(t *testing.T) {
	for _, test := range []struct {
		name  string
		frags []event.Frag
		want  bool
	}{
		{"no fragments", nil, true},
		{"17 of 512 bytes", every(17, 3840, 4096, 512, 32768), true},
		{"17 of 80 bytes", every(17, 4056, 4096, 80, 32768), false},
		{"8 of 178 bytes and 8 more", every(16, 4007, 4096, 179, 32768), true},
		{"9 of 150 bytes and 8 more", every(17, 4021, 4096, 150, 32768), false},
		{"large ones", every(17, 1000, 3000, 3000, 32768), true},
	} {
		p := made(254, 66, test.frags...)
		if got := RecutFits(&p); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}
