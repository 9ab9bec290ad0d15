package expression

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"xentrace/internal/event"
	"xentrace/test/memory"
)

// What is refused is named with its column, and what to write instead.
func TestRefused(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "end at column 1: want a condition here"},
		{"   ", "end at column 4: want a condition here"},
		{"10.0.0.1", `"10.0.0.1" at column 1: write host, net, port or proto before it`},
		{"tcp and 80", `"80" at column 9: write host`},
		{"host example.org", `"example.org" at column 6: names are not looked up; write the address`},
		{"port http", `"http" at column 6: names are not looked up; write the port's number`},
		{"port 80-90", `"80-90" at column 6: a range; write portrange`},
		{"tcp src port 80-90", `"80-90" at column 14: a range; write tcp src portrange`},
		{"port 65536", `"65536" at column 6: not a port`},
		{"portrange a-b", `"a-b" at column 11: not a range of ports`},
		{"tcp host 10.0.0.1", `"10.0.0.1" at column 10: tcp has no addresses; write tcp and host 10.0.0.1`},
		{"udp src 10.0.0.1", `"10.0.0.1" at column 9: udp has no addresses; write udp and src 10.0.0.1`},
		{"ip6 host 10.0.0.1", `"10.0.0.1" at column 10: not an IPv6 address`},
		{"ip host fd00::1", `"fd00::1" at column 9: not an IPv4 address`},
		{"ip port 80", `"80" at column 9: ip has no ports; write ip and port 80`},
		{"host 10.0.0", `"10.0.0" at column 6: not an IPv4 address of 4 octets`},
		{"host 10.0.0.300", `"10.0.0.300" at column 6: not an IPv4 address`},
		{"host 10.0.0.0/8", `"10.0.0.0" at column 6: a network; write net`},
		{"src fd00::/8", `"fd00::" at column 5: a network; write src net`},
		{"host 00:16:3e:01:02:03", `at column 6: a MAC address; write ether host`},
		{"ether host 10.0.0.1", `at column 12: not a MAC address`},
		{"net 10.0.0.1/8", `"10.0.0.1" at column 5: has bits set that its mask has not; write host`},
		{"net fd00::1/8", `"fd00::1" at column 5: has bits set behind its 8`},
		{"net 10/8", `"10" at column 5: write the network's 4 octets`},
		{"net 10.0.0.0/33", `"33" at column 14: not a prefix length: a number from 0 to 32`},
		{"net 10.0.0.0 mask 8", `"8" at column 19: want a netmask`},
		{"net example", `names are not looked up; write the network`},
		{"ip proto tcp", `"tcp" at column 10: a keyword; write proto \tcp`},
		{"tcp proto 6", `tcp carries no other protocol`},
		{"ip proto 256", `"256" at column 10: not a protocol`},
		{"src proto 6", `"proto" at column 5: a protocol has no direction`},
		{"ether proto 100", `"100" at column 13: not an EtherType of Ethernet II`},
		{"ether", `"ether" at column 1: not a condition by itself`},
		{"ip broadcast", `"broadcast" at column 4: not supported, it depends on the interface's netmask`},
		{"tcp multicast", `"multicast" at column 5: tcp has none`},
		{"vlan 4096", `"4096" at column 6: not a VLAN`},
		{"less tcp", `"tcp" at column 6: want a number of bytes behind less`},
		{"gateway 10.0.0.1", `"gateway" at column 1: not supported`},
		{"host gateway", `"gateway" at column 6: names are not looked up`},
		{"inbound", `"inbound" at column 1: not supported; every packet here is outbound`},
		{"ip protochain 6", `"protochain" at column 4: not supported; write proto NUMBER`},
		{"mpls", `write ether proto 0x8847`},
		{"ifname eth0", `choose interfaces with -i`},
		{"port 80 or (443 or 90000)", `"443" at column 13: write host`},
		{"tcp[0:3] = 1", `"3" at column 7: not a size: 1, 2 or 4 bytes`},
		{"(tcp[0:3] = 1)", `"3" at column 8: not a size: 1, 2 or 4 bytes`},
		{"tcp[13", `end at column 7: want ] here`},
		{"tcp[13]", `end at column 8: want a comparison here`},
		{"tcp[65536] = 1", `offset 65536: must be at most 65535`},
		{"esp[0] = 1", `"esp" at column 1: its bytes cannot be addressed`},
		{"len / 0 = 1", `"/" at column 5: division by zero`},
		{"len << 32 = 1", `"<<" at column 5: shift by more than 31 bits`},
		{"len + 5 % 3 = 1", `"%" at column 9: % has no precedence; write parentheses`},
		{"len % 5 + 3 = 1", `"+" at column 9: % before it has no precedence; write parentheses`},
		{"len = 4294967296", `"4294967296" at column 7: not a number of 32 bits`},
		{"len = 089", `"089" at column 7: not a number of 32 bits`},
		{"(tcp", `end at column 5: want ) here`},
		{"tcp)", `")" at column 4: unexpected`},
		{"tcp udp", `"udp" at column 5: unexpected; write and, or`},
		{"tcp and", `end at column 8: want a condition here`},
		{"nonsense", `"nonsense" at column 1: unknown word; write e.g. tcp port 443`},
		{"tcp; reboot", `";" at column 4: not part of an expression`},
		{"host é", `"é" at column 6: not part of an expression`},
		{"host fd00:::1", `at column 6: not an IPv6 address`},
		{strings.Repeat("(", 100) + "tcp" + strings.Repeat(")", 100), "nested too deep"},
		{strings.Repeat("not ", 100) + "tcp", "nested too deep"},
		{"tcp[" + strings.Repeat("ip[", 90) + "0", "nested too deep"},
		{strings.Repeat("tcp or ", 1000) + "udp", "7003 bytes: must be at most 4096"},
		{strings.Repeat("vlan and ", 9) + "tcp", "too many VLAN tags; at most 8"},
		{"1 + (2 + (3 + (4 + (5 + (6 + (7 + (8 + (9 + (10 + (11 + (12 + (13 + (14 + (15 + (16 + (17 + len)))))))))))))))) = 5", "the arithmetic is too deep"},
	} {
		e, err := Compile(test.text)
		if err == nil {
			t.Errorf("%.60q is accepted: %v", test.text, e)
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.60q: %v; want %s", test.text, err, test.want)
		}
	}
}

// Where no header was read, the record's addresses, ports, protocol and length are what
// an expression is matched with; what takes more than that matches nothing.
func TestWithoutHeader(t *testing.T) {
	flow := func(proto uint8, source, destination string) *event.Flow {
		return &event.Flow{Proto: proto, Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
	}
	packets := map[string]*event.Packet{
		"tcp":      {Len: 1514, Flow: flow(6, "10.0.0.1:40000", "10.0.0.9:443")},
		"udp6":     {Len: 200, Flow: flow(17, "[fd00::1]:53", "[fd00::9]:5353")},
		"icmp":     {Len: 98, Flow: flow(1, "10.0.0.1:0", "192.168.1.7:0")},
		"fragment": {Len: 1514, Flow: flow(17, "10.0.0.1:0", "10.0.0.9:0")},
		"arp":      {Len: 42, EtherType: 0x0806},
		"nothing":  {Len: 60},
	}
	for _, test := range []struct{ text, needs, want string }{
		{"tcp", "", "tcp"},
		{"ip", "", "fragment icmp tcp"},
		{"ip6", "", "udp6"},
		{"arp", "", "arp"},
		{"not tcp", "", "arp fragment icmp udp6"},
		{"udp", "", "fragment udp6"},
		{"icmp", "", "icmp"},
		{"host 10.0.0.1", "", "fragment icmp tcp"},
		{"src net 10.0.0.0/8 and not dst net 10.0.0.0/8", "", "icmp"},
		{"net fd00::/8", "", "udp6"},
		{"tcp port 443 and host 10.0.0.9", "", "tcp"},
		{"port 53", "", "udp6"},
		{"portrange 5000-6000", "", "udp6"},
		{"port 0", "", ""},
		{"ip proto 17", "", "fragment"},
		{"greater 200", "", "fragment tcp udp6"},
		{"less 60", "", "arp nothing"},
		{"len > 100 and udp", "", "fragment udp6"},
		{"ip multicast", "", ""},
		{"tcp[13] & 2 != 0", "tcp[...]", ""},
		{"not tcp[13] & 2 != 0", "tcp[...]", ""},
		{"icmp[icmptype] = icmp-echo", "icmp[...]", ""},
		{"tcp and ether host 00:16:3e:01:02:03", "ether host", ""},
		{"not ether host 00:16:3e:01:02:03 and ip[8] = 1", "ether host", ""},
		{"not vlan", "vlan", ""},
		{"ether broadcast", "ether broadcast", ""},
		{"multicast", "ether multicast", ""},
		{"arp host 10.0.0.1", "arp host", ""},
		{"rarp src 10.0.0.1", "rarp host", ""},
		{"(tcp[13] = 2)", "tcp[...]", ""},
	} {
		e, err := Compile(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		var passed []string
		for _, name := range []string{"arp", "fragment", "icmp", "nothing", "tcp", "udp6"} {
			if e.Match(packets[name]) {
				passed = append(passed, name)
			}
		}
		if got := strings.Join(passed, " "); got != test.want || e.Needs() != test.needs || e.String() != test.text {
			t.Errorf("%q passes %q and needs %q; want %q and %q", e, got, e.Needs(), test.want, test.needs)
		}
	}
}

// A bit that lies behind the bytes that were read is not known: no condition on it is met.
func TestBehindTheHeader(t *testing.T) {
	frame := corpus(t)[0]
	for text, want := range map[string]bool{"tcp": true, "port 80": false, "not port 80": false} {
		e, err := Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Match(&event.Packet{Header: frame.data[:30], Len: len(frame.data)}); got != want {
			t.Errorf("%s with 30 bytes: %t, want %t", text, got, want)
		}
	}
}

// One expression is matched by the reader of records and by the screen.
func TestConcurrentUse(t *testing.T) {
	e, err := Compile("tcp[((tcp[12] & 0xf0) >> 2):4] = 0x00010203 or port 53")
	if err != nil {
		t.Fatal(err)
	}
	frames := corpus(t)
	want := make([]bool, len(frames))
	for i, f := range frames {
		want[i] = e.Match(&event.Packet{Header: f.data, Len: len(f.data)})
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i, f := range frames {
				if e.Match(&event.Packet{Header: f.data, Len: len(f.data)}) != want[i] {
					t.Errorf("%s differs", f.name)
				}
			}
		})
	}
	group.Wait()
}

// Whatever is compiled, matching it ends.
func FuzzCompile(f *testing.F) {
	all, err := os.ReadFile("testdata/expressions")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		f.Add(strings.TrimSuffix(line, "\n"))
	}
	frames := corpus(f)[:60]
	f.Fuzz(func(t *testing.T, text string) {
		var e *Expression
		var err error
		memory.Within(t, 8<<20+16<<10*uint64(len(text)), func() { e, err = Compile(text) }) // twice as much under -race
		if err != nil {
			if err.Error() == "" || strings.ContainsRune(err.Error(), '\n') && !strings.ContainsRune(text, '\n') {
				t.Errorf("%q: error %q", text, err)
			}
			return
		}
		for _, frame := range frames {
			whole := e.Match(&event.Packet{Header: frame.data, Len: len(frame.data)})
			if again := e.Match(&event.Packet{Header: frame.data, Len: len(frame.data)}); again != whole {
				t.Errorf("%q passes %q once", text, frame.name)
			}
			e.Match(&event.Packet{Header: frame.data[:min(20, len(frame.data))], Len: len(frame.data)})
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	e, err := Compile("tcp port 443 and host 10.0.0.9")
	if err != nil {
		b.Fatal(err)
	}
	for name, header := range map[string][]byte{"read": corpus(b)[1].data, "reconstructed": nil} {
		p := &event.Packet{Header: header, Len: 1514, Flow: &event.Flow{
			Proto: 6, Source: netip.MustParseAddrPort("10.0.0.9:443"), Destination: netip.MustParseAddrPort("10.0.0.1:40000"), Seq: 1, SeqKnown: true, SeqLength: 1448,
		}}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !e.Match(p) {
					b.Fatal("does not pass")
				}
			}
		})
	}
}
