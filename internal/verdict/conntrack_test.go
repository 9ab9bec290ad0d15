package verdict

import (
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

// NETFILTER_DROP is a rule's or connection tracking's: its counters in the same time decide.
func TestNetfilterDrops(t *testing.T) {
	device := func(netns uint32, drops uint64, c *event.Conntrack) event.InterfaceTotals {
		return event.InterfaceTotals{Device: event.Device{Name: "v0", NetNS: netns}, Reasons: map[string]uint64{"NETFILTER_DROP": drops}, Conntrack: c}
	}
	for name, test := range map[string]struct {
		interfaces []event.InterfaceTotals
		meaning    string
		advice     string
	}{
		"not known":    {[]event.InterfaceTotals{device(1, 3, nil)}, "A netfilter rule, or connection tracking, dropped", "nft-rules iptables-rules conntrack-state"},
		"a rule":       {[]event.InterfaceTotals{device(1, 3, &event.Conntrack{EarlyDropped: 4})}, "A netfilter rule dropped the packet: connection tracking dropped none", "nft-rules iptables-rules"},
		"a clash":      {[]event.InterfaceTotals{device(1, 3, &event.Conntrack{InsertFailed: 3, Dropped: 3})}, "3 for a connection that clashed with another (insert_failed), and not a netfilter rule.", "nat-ports conntrack-state"},
		"a full table": {[]event.InterfaceTotals{device(1, 3, &event.Conntrack{Dropped: 7})}, "7 because its table was full (drop), and not a netfilter rule.", "conntrack-max conntrack-state"},
		"both":         {[]event.InterfaceTotals{device(1, 9, &event.Conntrack{InsertFailed: 2, Dropped: 3})}, "dropped some of the packets, 2 for a connection that clashed with another (insert_failed), 1 because its table was full (drop); netfilter rules dropped the others.", "nat-ports conntrack-max conntrack-state nft-rules iptables-rules"},
		"two interfaces of one namespace": {[]event.InterfaceTotals{device(1, 3, &event.Conntrack{InsertFailed: 3}), device(1, 2, &event.Conntrack{InsertFailed: 3})},
			"some of the packets, 3 for", "nat-ports conntrack-state nft-rules iptables-rules"},
		"one namespace is not known": {[]event.InterfaceTotals{device(1, 3, &event.Conntrack{InsertFailed: 3}), device(2, 2, nil)}, "A netfilter rule, or connection tracking,", "nft-rules iptables-rules conntrack-state"},
	} {
		all := Explain(&event.Totals{Interfaces: test.interfaces}, func(event.Device) remedy.Facts { return remedy.Facts{} })
		if len(all) != 1 {
			t.Fatalf("%s: %+v", name, all)
		}
		var ids []string
		for _, a := range all[0].Advice {
			ids = append(ids, a.ID)
		}
		if got := strings.Join(ids, " "); !strings.Contains(all[0].Meaning, test.meaning) || got != test.advice {
			t.Errorf("%s: %q, advice %s; want %q, %s", name, all[0].Meaning, got, test.meaning, test.advice)
		}
	}
}
