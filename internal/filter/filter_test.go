package filter

import (
	"net/netip"
	"slices"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/filter/expression"
)

func packet() *event.Packet {
	return &event.Packet{
		Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 31,
		Flow: &event.Flow{
			Proto: 6, Source: netip.MustParseAddrPort("10.1.2.3:40000"),
			Destination: netip.MustParseAddrPort("192.168.0.9:443"),
		},
		Process: &event.Process{PID: 4242, Comm: "nginx"},
	}
}

func host(t *testing.T, text string) netip.Prefix {
	t.Helper()
	prefix, err := ParseHost(text)
	if err != nil {
		t.Fatal(err)
	}
	return prefix
}

func TestMatch(t *testing.T) {
	v6 := packet()
	v6.Flow.Source, v6.Flow.Destination = netip.MustParseAddrPort("[fd00::1]:40000"), netip.MustParseAddrPort("[::ffff:10.0.0.1]:443")
	notIP, nobody, elsewhere := packet(), packet(), packet()
	notIP.Flow, nobody.Process = nil, nil
	elsewhere.Cause, elsewhere.Layer = event.CauseNone, event.LayerElsewhere
	tunnel := packet()
	tunnel.Inner, tunnel.Flow = tunnel.Flow, &event.Flow{Proto: 17, Source: netip.MustParseAddrPort("172.16.0.1:50000"), Destination: netip.MustParseAddrPort("172.16.0.2:4789")}
	hosts := func(texts ...string) Filter {
		var f Filter
		for _, text := range texts {
			f.Hosts = append(f.Hosts, host(t, text))
		}
		return f
	}
	pcap := func(text string) Filter {
		compiled, err := expression.Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		return Filter{Expression: compiled}
	}
	for _, test := range []struct {
		name   string
		filter Filter
		packet *event.Packet
		want   bool
	}{
		{"outer host of a tunnel", hosts("172.16.0.2"), tunnel, true},
		{"inner host of a tunnel", hosts("192.168.0.9"), tunnel, true},
		{"another host than a tunnel's", hosts("192.168.0.8"), tunnel, false},
		{"outer host and inner port", Filter{Hosts: hosts("172.16.0.2").Hosts, Ports: []uint16{443}}, tunnel, false},
		{"expression", pcap("tcp port 443 and host 10.1.2.3"), packet(), true},
		{"another expression", pcap("udp or dst net 10.0.0.0/8"), packet(), false},
		{"expression and a flag", Filter{Expression: pcap("tcp").Expression, Ports: []uint16{80}}, packet(), false},
		{"expression of what is not IP", pcap("tcp"), notIP, false},
		{"none", Filter{}, packet(), true},
		{"none, and nothing known", Filter{}, &event.Packet{}, true},
		{"source", hosts("10.1.2.3"), packet(), true},
		{"destination", hosts("192.168.0.9"), packet(), true},
		{"another host", hosts("10.1.2.4"), packet(), false},
		{"one of two hosts", hosts("10.1.2.4", "10.1.2.3"), packet(), true},
		{"network", hosts("192.168.0.0/16"), packet(), true},
		{"another network", hosts("192.169.0.0/16"), packet(), false},
		{"every IPv4 address", hosts("0.0.0.0/0"), packet(), true},
		{"every IPv6 address", hosts("::/0"), packet(), false},
		{"IPv6", hosts("fd00::1"), v6, true},
		{"IPv6 network", hosts("fd00::/8"), v6, true},
		{"IPv4-mapped address of the packet", hosts("10.0.0.1"), v6, true},
		{"IPv4-mapped address of the filter", hosts("::ffff:10.1.2.3"), packet(), true},
		{"host of what is not IP", hosts("10.1.2.3"), notIP, false},
		{"source port", Filter{Ports: []uint16{40000}}, packet(), true},
		{"destination port", Filter{Ports: []uint16{443}}, packet(), true},
		{"another port", Filter{Ports: []uint16{80}}, packet(), false},
		{"one of two ports", Filter{Ports: []uint16{80, 443}}, packet(), true},
		{"port of what is not IP", Filter{Ports: []uint16{443}}, notIP, false},
		{"process", Filter{PIDs: []int{4242}}, packet(), true},
		{"another process", Filter{PIDs: []int{4243}}, packet(), false},
		{"process of nobody's packet", Filter{PIDs: []int{4242}}, nobody, false},
		{"name", Filter{Comms: []string{"sshd", "nginx"}}, packet(), true},
		{"part of a name", Filter{Comms: []string{"ngin"}}, packet(), false},
		{"name of nobody's packet", Filter{Comms: []string{""}}, nobody, false},
		{"cause", Filter{Causes: []event.Cause{event.TooManySlots}}, packet(), true},
		{"another cause", Filter{Causes: []event.Cause{event.SGOff, event.NoCarrier}}, packet(), false},
		{"cause of a drop elsewhere", Filter{Causes: []event.Cause{event.TooManySlots}}, elsewhere, false},
		{"verdict", Filter{Verdicts: []event.Verdict{event.Linearized, event.Dropped}}, packet(), true},
		{"another verdict", Filter{Verdicts: []event.Verdict{event.Linearized}}, packet(), false},
		{"verdict of a drop elsewhere", Filter{Verdicts: []event.Verdict{event.Dropped}}, elsewhere, true},
		{"as many slots", Filter{MinSlots: 31}, packet(), true},
		{"fewer slots", Filter{MinSlots: 32}, packet(), false},
		{"all conditions", Filter{
			Hosts: hosts("10.0.0.0/8").Hosts, Ports: []uint16{443}, PIDs: []int{4242}, Comms: []string{"nginx"},
			Causes: []event.Cause{event.TooManySlots}, Verdicts: []event.Verdict{event.Dropped}, MinSlots: 19,
		}, packet(), true},
		{"all but one", Filter{Hosts: hosts("10.0.0.0/8").Hosts, Ports: []uint16{443}, PIDs: []int{1}}, packet(), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.filter.Match(test.packet); got != test.want {
				t.Errorf("%v: passes %t, want %t", test.filter.Flags(), got, test.want)
			}
		})
	}
}

// The owner of a flow may be known later than that of its last packet.
func TestMatchOfLaterOwner(t *testing.T) {
	p := packet()
	f := Filter{PIDs: []int{7}}
	if f.Match(p) || !f.MatchOf(p, &event.Process{PID: 7}) || f.MatchOf(p, nil) {
		t.Error("want the owner that is given, not the packet's own")
	}
}

func TestFlagsAreWhatWasGiven(t *testing.T) {
	f := Filter{
		Hosts: []netip.Prefix{host(t, "10.1.2.3"), host(t, "10.9.9.9/8"), host(t, "fd00::1")}, Ports: []uint16{443}, PIDs: []int{1},
		Comms: []string{"a b"}, Causes: []event.Cause{event.SGOff}, Verdicts: []event.Verdict{event.OverLimit}, MinSlots: 19,
	}
	f.Expression, _ = expression.Compile("tcp and less 100")
	want := []string{"--host 10.1.2.3", "--host 10.0.0.0/8", "--host fd00::1", "--port 443", "--pid 1", "--comm a b", "--cause sg_off", "--verdict over_limit", "--min-slots 19", "'tcp and less 100'"}
	if got := f.Flags(); !slices.Equal(got, want) || !f.Active() || (&Filter{}).Active() {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBadValuesAreRefused(t *testing.T) {
	for _, test := range []struct {
		what  string
		parse func(string) error
		bad   []string
	}{
		{"host", func(s string) error { _, err := ParseHost(s); return err },
			[]string{"", "example.org", "10.0.0", "10.0.0.1/33", "fe80::1%eth0", "::ffff:10.0.0.0/104", "10.0.0.1:80"}},
		{"port", func(s string) error { _, err := ParsePort(s); return err }, []string{"", "0", "65536", "-1", "http", "80,443"}},
		{"process", func(s string) error { _, err := ParsePID(s); return err }, []string{"", "0", "-1", "nginx", "4194305"}},
		{"name", func(s string) error { _, err := ParseComm(s); return err }, []string{"", "sixteen-letters-"}},
		{"slots", func(s string) error { _, err := ParseMinSlots(s); return err }, []string{"", "0", "-3", "many", "256"}},
		{"cause", func(s string) error { _, err := ParseCause(s); return err }, []string{"", "none", "too_many", "TOO_BIG"}},
		{"verdict", func(s string) error { _, err := ParseVerdict(s); return err }, []string{"", "sent", "none", "drop", "unknown"}},
	} {
		for _, text := range test.bad {
			if test.parse(text) == nil {
				t.Errorf("%s %q is taken, want an error", test.what, text)
			}
		}
	}
}

func TestWordsAreTaken(t *testing.T) {
	for _, word := range CauseWords() {
		if cause, err := ParseCause(word); err != nil || cause.String() != word {
			t.Errorf("cause %s: %v, %v", word, cause, err)
		}
	}
	for _, word := range VerdictWords() {
		if verdict, err := ParseVerdict(word); err != nil || verdict.String() != word {
			t.Errorf("verdict %s: %v, %v", word, verdict, err)
		}
	}
	if got, want := VerdictWords(), []string{"dropped", "linearized", "bounced", "over_limit", "rejected"}; !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
	if len(CauseWords()) != event.NumCauses-1 {
		t.Errorf("causes %v, want all %d", CauseWords(), event.NumCauses-1)
	}
}
