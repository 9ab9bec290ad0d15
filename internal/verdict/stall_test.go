package verdict

import (
	"slices"
	"testing"

	"xentrace/internal/event"
)

func TestAdviceForStall(t *testing.T) {
	const (
		mtu         = "ip link set dev eth0 mtu 1500"
		gatherOff   = "ethtool -K eth0 sg off"
		gatherOn    = "ethtool -K eth0 sg on tso on gso on"
		singlePages = "sysctl -w net.core.high_order_alloc_disable=1"
		reserve     = "sysctl -w vm.min_free_kbytes=131072"
		inWords     = ""
	)
	for _, test := range []struct {
		name  string
		facts Facts
		cause event.Cause
		want  []string
	}{
		{"jumbo frames", Facts{MTU: 9001, CutFits: true}, event.TooManySlots, []string{mtu, singlePages, inWords}},
		{"jumbo frames of pieces so small that cutting does not help", Facts{MTU: 9001}, event.TooManySlots, []string{gatherOff, singlePages, inWords}},
		{"jumbo frames, single pages already", Facts{MTU: 9001, CutFits: true, SinglePages: true}, event.TooManySlots, []string{mtu, inWords}},
		{"ordinary frames", Facts{MTU: 1500}, event.TooManySlots, []string{gatherOff, singlePages, inWords}},
		{"unknown MTU", Facts{}, event.TooManySlots, []string{gatherOff, singlePages, inWords}},
		{"no memory, jumbo frames", Facts{MTU: 9001, CutFits: true}, event.LinearizeFailed, []string{mtu, reserve, singlePages}},
		{"no memory, ordinary frames", Facts{MTU: 1500, SinglePages: true}, event.LinearizeFailed, []string{reserve}},
		{"scatter-gather off", Facts{MTU: 1500}, event.SGOff, []string{gatherOn}},
		{"no memory to bounce", Facts{MTU: 1500}, event.BounceFailed, []string{reserve}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var commands []string
			for _, a := range ForStall(test.facts, test.cause) {
				commands = append(commands, a.For("eth0"))
			}
			if !slices.Equal(commands, test.want) {
				t.Errorf("commands %q, want %q", commands, test.want)
			}
		})
	}
	for _, cause := range event.Causes() {
		for _, facts := range []Facts{{}, {MTU: 9001}, {MTU: 9001, CutFits: true}, {MTU: 1500, SinglePages: true}} {
			advice := ForStall(facts, cause)
			if len(advice) == 0 {
				t.Errorf("%s: no advice", cause)
			}
			checkRule(t, Rule{Name: cause.String(), Meaning: "A stall.", Advice: advice})
		}
	}
}

func TestCutFits(t *testing.T) {
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
		if got := CutFits(&p); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}
