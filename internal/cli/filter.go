package cli

import (
	"net/netip"
	"slices"

	"github.com/spf13/pflag"

	"xentrace/internal/event"
	"xentrace/internal/filter"
)

// filterFlags choose what is shown.
func filterFlags() []*flag {
	return []*flag{
		{name: "host", value: "ADDRESS", usage: "show only packets from or to this address or network, such as 10.0.0.1 or fd00::/8; may be given again for more",
			bind: listValue("address", filter.ParseHost, func(f *filter.Filter) *[]netip.Prefix { return &f.Hosts })},
		{name: "port", value: "N", usage: "show only packets from or to this port; may be given again for more",
			bind: listValue("port", filter.ParsePort, func(f *filter.Filter) *[]uint16 { return &f.Ports })},
		{name: "pid", value: "N", usage: "show only packets of sockets that this process owns; may be given again for more",
			bind: listValue("number", filter.ParsePID, func(f *filter.Filter) *[]int { return &f.PIDs })},
		{name: "comm", value: "NAME", usage: "show only packets of sockets that a process of this name owns, as /proc/PID/comm has it; may be given again for more",
			bind: listValue("name", filter.ParseComm, func(f *filter.Filter) *[]string { return &f.Comms })},
		{name: "cause", value: "NAME", words: filter.CauseWords(), usage: "show only packets that the driver dropped for this cause; may be given again for more",
			bind: listValue("word", filter.ParseCause, func(f *filter.Filter) *[]event.Cause { return &f.Causes })},
		{name: "verdict", value: "NAME", words: filter.VerdictWords(), usage: "show only packets with this verdict; may be given again for more",
			bind: listValue("word", filter.ParseVerdict, func(f *filter.Filter) *[]event.Verdict { return &f.Verdicts })},
		{name: "min-slots", value: "N", usage: "show only packets that need at least this many slots",
			bind: minSlotsValue},
	}
}

// listValue adds a value to a list each time that the flag is given.
func listValue[T comparable](kind string, parse func(string) (T, error), target func(*filter.Filter) *[]T) func(*settings) pflag.Value {
	return func(s *settings) pflag.Value {
		return &value{kind: kind, set: func(text string) error {
			one, err := parse(text)
			if err != nil {
				return err
			}
			if list := target(&s.filter); !slices.Contains(*list, one) {
				*list = append(*list, one)
			}
			return nil
		}}
	}
}

func minSlotsValue(s *settings) pflag.Value {
	return &value{kind: "number", set: func(text string) (err error) {
		s.filter.MinSlots, err = filter.ParseMinSlots(text)
		return err
	}}
}
