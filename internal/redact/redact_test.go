package redact

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

const (
	secretHost = "db7.acme.example"
	secretComm = "acmed"
	secretUnit = "acme-billing.service"
)

var secrets = []string{"acme", "billing", "db7", "8.8.4", "172.16.9", "2a00:1450", "fd12:3456", "0f1e2d3c", "00:16:3e", "pay_invoice", "Web Content", "5f0c2a7e"}

func secretPacket(source, destination string) *event.Packet {
	return &event.Packet{
		Time: time.Unix(1, 0), Interface: event.Device{Name: "eth0", Index: 2}, Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 35, Limit: 18,
		Flow:  &event.Flow{Proto: 6, Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination), Seq: 7, SeqKnown: true},
		Inner: &event.Flow{Proto: 17, Source: netip.MustParseAddrPort("[fd12:3456::9]:1"), Destination: netip.MustParseAddrPort("[2a00:1450::1]:2")},

		BeforeNAT: &event.Flow{Proto: 6, Source: netip.MustParseAddrPort("172.16.9.5:2"), Destination: netip.MustParseAddrPort("8.8.4.4:2")},
		Process:   &event.Process{PID: 812, Comm: secretComm, UID: 33, Unit: secretUnit, Container: "0f1e2d3c"},
		Sender:    &event.Task{PID: 812, Comm: secretComm},
		Stack:     []string{"xennet_start_xmit+0x0 [xen_netfront]", "tcp_sendmsg+0x27", "pay_invoice+0x4d (/opt/acme/bin/acmed)", "[unknown] 0x7f01 (/opt/acme/bin/acmed+0x99)", "/opt/acme/lib/x.so"},
		Header:    tcpFrame("172.16.9.5", "8.8.4.4"),
	}
}

// events are of every type, and hold each secret where it can be.
func events() []event.Event {
	advice := []event.Advice{{ID: "x", Command: "ss -tn dst 8.8.4.4:443 | grep acmed", Effect: "acmed, at 172.16.9.5, recovers.", Cost: "As " + secretUnit + " restarts: little."}}
	packet := secretPacket("172.16.9.5:40000", "8.8.4.4:443")
	history := event.FlowHistory{
		FlowKey:   event.FlowKey{Proto: 6, Source: packet.Flow.Source, Destination: packet.Flow.Destination},
		Interface: packet.Interface, Process: packet.Process, Packet: *packet, State: event.Stalled, Stack: packet.Stack, Advice: advice,
		Layout: "3 fragments, sent by acmed (Web Content) to 8.8.4.4.",
	}
	spaced := secretPacket("172.16.9.6:1", "8.8.4.5:2")
	spaced.Process = &event.Process{PID: 9, Comm: "Web Content"}
	finding := event.Finding{ID: "driver", Interface: "eth0", Message: "db7 is at 00:16:3e:01:02:03, 2a00:1450::7/64.", Evidence: []event.Fact{{Key: "host", Value: secretHost}, {Key: "mtu", Value: 9001}}, Advice: advice}
	check := finding
	check.Advice = nil // what runs before a packet is seen knows no process
	explained := []event.Explanation{{Name: "too_many_slots", Meaning: "Packets to 8.8.4.4 are dropped.", Advice: advice}}
	totals := event.Totals{Missing: map[string]string{"missed": "not on " + secretHost}}
	return []event.Event{
		&event.Start{
			Hostname: secretHost, BootID: "5f0c2a7e-0b6b", Kernel: "6.1.0-18-amd64", Check: []event.Finding{check},
			Command: []string{"/opt/acme/xentrace", "watch", "-i", "eth0", "-d", "30s", "-w", "/srv/acme.jsonl", "--comm=acmed", "--host", "8.8.4.4", "host db7"},
		},
		packet, spaced, &event.FlowEvent{Flow: history},
		&event.Interval{Totals: totals, Explained: explained},
		&event.Notice{ID: event.NoticeUnmonitored, Reason: "acmed on db7 holds 8.8.4.4"},
		&event.Summary{Totals: totals, Flows: &event.FlowSummary{Flows: []event.FlowHistory{history}}, Explained: explained, Filter: []string{"--host 8.8.4.4", "--comm acmed", "--min-slots 19"}},
		&finding, &event.Report{Findings: []event.Finding{finding}},
	}
}

// strings collects every string and address in a value.
func stringsIn(v reflect.Value, all *[]string) {
	switch v.Kind() {
	case reflect.String:
		*all = append(*all, v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			stringsIn(v.Elem(), all)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			stringsIn(v.Index(i), all)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			stringsIn(key, all)
			stringsIn(v.MapIndex(key), all)
		}
	case reflect.Struct:
		switch known := v.Interface().(type) {
		case netip.AddrPort:
			*all = append(*all, known.String())
			return
		case time.Time:
			return
		}
		for i := range v.NumField() {
			stringsIn(v.Field(i), all)
		}
	}
}

// Nothing secret is left in any field of any event, and what was given is not changed.
func TestNothingSecretIsLeft(t *testing.T) {
	r := New()
	before, given := events(), events()
	for i, e := range given {
		made := r.Event(e)
		if made.Type() != e.Type() {
			t.Errorf("%s became %s", e.Type(), made.Type())
		}
		var texts []string
		stringsIn(reflect.ValueOf(made), &texts)
		for _, text := range texts {
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%s: %q holds %q", e.Type(), text, secret)
				}
			}
		}
		if !reflect.DeepEqual(e, before[i]) {
			t.Errorf("%s: the event that was given is changed", e.Type())
		}
	}
}

// What is needed to understand a packet stays.
func TestWhatStays(t *testing.T) {
	r := New()
	all := events()
	start := r.Event(all[0]).(*event.Start)
	if want := []string{"xentrace", "watch", "-i", "...", "-d", "30s", "-w", "...", "--comm=...", "--host", "...", "..."}; !slices.Equal(start.Command, want) {
		t.Errorf("command %q, want %q", start.Command, want)
	}
	if start.Kernel != "6.1.0-18-amd64" || start.Hostname != "host-1" || start.Check[0].Message != "host-1 is at 02:00:00:00:00:01, 2001:db8::1/64." {
		t.Errorf("start %+v", start)
	}
	p := r.Event(all[1]).(*event.Packet)
	if want := []string{"xennet_start_xmit+0x0 [xen_netfront]", "tcp_sendmsg+0x27", "function-1+0x4d (file-1)", "[unknown] 0x7f01 (file-1+0x99)", "file-2"}; !slices.Equal(p.Stack, want) {
		t.Errorf("stack %q, want %q", p.Stack, want)
	}
	if p.Process.Comm != "proc-1" || p.Process.PID != 812 || p.Sender.Comm != "proc-1" || p.Flow.Seq != 7 || p.Interface.Name != "eth0" {
		t.Errorf("packet %+v of %+v", p, p.Process)
	}
	r.Event(all[2])
	f := r.Event(all[3]).(*event.FlowEvent).Flow
	if f.Source != p.Flow.Source || f.Layout != "3 fragments, sent by proc-1 (proc-2) to "+p.Flow.Destination.Addr().String()+"." {
		t.Errorf("layout %q from %s, packet from %s", f.Layout, f.Source, p.Flow.Source)
	}
	if want := "ss -tn dst " + p.Flow.Destination.String() + " | grep proc-1"; f.Advice[0].Command != want {
		t.Errorf("command %q, want %q", f.Advice[0].Command, want)
	}
	if s := r.Event(all[6]).(*event.Summary); !slices.Equal(s.Filter, []string{"--host ...", "--comm ...", "--min-slots ..."}) {
		t.Errorf("filter %q", s.Filter)
	}
}

// A process may have the name of a program that advice runs.
func TestProgramsInAdviceStay(t *testing.T) {
	r := New()
	r.comms.of("ethtool")
	if got := r.command("ethtool -K eth0 sg on; ethtool -k eth0 # of ethtool"); got != "ethtool -K eth0 sg on; ethtool -k eth0 # of proc-1" {
		t.Errorf("command %q", got)
	}
}

// An address has one replacement: of its family, private or not as before, next to its
// neighbours.
func TestAddresses(t *testing.T) {
	r := New()
	for _, test := range []struct{ given, want string }{
		{"10.1.2.3", "10.0.0.1"}, {"10.1.2.9", "10.0.0.2"}, {"192.168.7.1", "10.0.1.1"}, {"10.1.2.3", "10.0.0.1"},
		{"8.8.8.8", "192.0.2.1"}, {"8.8.4.4", "198.51.100.1"}, {"1.1.1.1", "203.0.113.1"}, {"9.9.9.9", "240.0.3.1"}, {"8.8.8.9", "192.0.2.2"},
		{"169.254.169.254", "169.254.0.1"}, {"127.0.0.1", "127.0.0.1"}, {"224.0.0.251", "224.0.0.251"}, {"0.0.0.0", "0.0.0.0"}, {"255.255.255.255", "255.255.255.255"},
		{"2a00:1450:4001::1", "2001:db8::1"}, {"2a00:1450:4001::2", "2001:db8::2"}, {"2a00:1450:4002::2", "2001:db8:0:1::1"},
		{"fd12::5", "fd00::1"}, {"fe80::216:3eff:fe01:2", "fe80::1"}, {"::1", "::1"}, {"ff02::1", "ff02::1"}, {"::ffff:8.8.8.8", "::ffff:192.0.2.1"},
	} {
		if got := r.addresses.address(netip.MustParseAddr(test.given)).String(); got != test.want {
			t.Errorf("%s became %s, want %s", test.given, got, test.want)
		}
	}
}

// The tables do not grow for ever.
func TestMemoryIsBounded(t *testing.T) {
	r := New()
	for i := range uint32(mostEntries + 5000) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x0a000000+i*256)
		r.addresses.address(netip.AddrFrom4(b))
		r.comms.of(string(b[:]))
		r.addresses.mac([6]byte{0, 0, b[0], b[1], b[2], b[3]})
	}
	if n, m, k := len(r.addresses.known), len(r.comms.known), len(r.addresses.macs); n > mostEntries || m > mostEntries || k > mostEntries {
		t.Errorf("%d addresses, %d names, %d MACs", n, m, k)
	}
	if got := r.comms.of("one more"); got != "proc-other" {
		t.Errorf("name %q", got)
	}
}

func macs(kind uint16) []byte {
	b := []byte{0x00, 0x16, 0x3e, 1, 2, 3, 0x00, 0x16, 0x3e, 4, 5, 6}
	return binary.BigEndian.AppendUint16(b, kind)
}

func ipv4(proto byte, source, destination string, rest []byte) []byte {
	b := []byte{0x46, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, proto, 0xff, 0xff}
	a, c := netip.MustParseAddr(source).As4(), netip.MustParseAddr(destination).As4()
	b = append(append(append(b, a[:]...), c[:]...), 7, 4, 4, 0) // record route
	return append(b, rest...)
}

func tcpFrame(source, destination string) []byte {
	tcp := []byte{0x9c, 0x40, 1, 0xbb, 0, 0, 0, 7, 0, 0, 0, 9, 0x60, 0x18, 0, 64, 0xab, 0xcd, 0, 0, 1, 1, 1, 0}
	return append(macs(etherIPv4), ipv4(protoTCP, source, destination, append(tcp, "secret payload"...))...)
}

// Headers keep what describes the packet; addresses are those of the event's flow, and
// payload is cleared.
func TestHeader(t *testing.T) {
	r := New()
	p := r.Event(secretPacket("172.16.9.5:40000", "8.8.4.4:443")).(*event.Packet)
	b := p.Header
	if len(b) != len(tcpFrame("1.1.1.1", "1.1.1.1")) {
		t.Fatalf("%d bytes", len(b))
	}
	ip := b[linkBytes:]
	source, destination := netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	if source != p.Flow.Source.Addr() || destination != p.Flow.Destination.Addr() {
		t.Errorf("header from %s to %s, flow %+v", source, destination, p.Flow)
	}
	if checksum(ip[:24]) != 0 {
		t.Error("the checksum of the IPv4 header is wrong")
	}
	if want := []byte{0x9c, 0x40, 1, 0xbb, 0, 0, 0, 7, 0, 0, 0, 9, 0x60, 0x18, 0, 64, 0, 0, 0, 0, 1, 1, 1, 0}; !bytes.Equal(ip[24:48], want) {
		t.Errorf("TCP header % x, want % x", ip[24:48], want)
	}
	if payload := ip[48:]; len(payload) != 14 || slices.ContainsFunc(payload, func(c byte) bool { return c != 0 }) {
		t.Errorf("payload %q", payload)
	}
	if want := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}; !bytes.Equal(b[:14], want) {
		t.Errorf("link header % x", b[:14])
	}
}

// No header, however short or strange, keeps an address, and none crashes.
func TestHeadersOfEveryKind(t *testing.T) {
	secret := []byte{0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef}
	v6 := append([]byte{0x60, 0, 0, 0, 0, 0, 17, 64}, append(slices.Clone(secret), secret...)...)
	for name, whole := range map[string][]byte{
		"tcp":      tcpFrame("172.16.9.5", "8.8.4.4"),
		"arp":      append(macs(0x0806), secret...),
		"ipv6 udp": append(append(macs(etherIPv6), v6...), append([]byte{0, 1, 0, 2, 0, 0, 0xbe, 0xef}, secret...)...),
		"vlan":     append(append(macs(ether8021), 0, 5, 8, 0), ipv4(protoUDP, "172.16.9.5", "8.8.4.4", append(make([]byte, 8), secret...))...),
		"icmp":     append(macs(etherIPv4), ipv4(protoICMP, "172.16.9.5", "8.8.4.4", append([]byte{3, 4, 0xbe, 0xef}, secret...))...),
		"gre":      append(macs(etherIPv4), ipv4(47, "172.16.9.5", "8.8.4.4", secret)...),
	} {
		for n := range len(whole) + 1 {
			got := New().header(whole[:n])
			for _, left := range [][]byte{{172, 16, 9}, {8, 8, 4}, {0x16, 0x3e}, {0xbe, 0xef}, []byte("secret")} {
				if len(got) != n || bytes.Contains(got, left) {
					t.Fatalf("%s, %d bytes: % x holds % x", name, n, got, left)
				}
			}
		}
	}
}

// JSON of what is redacted reads as before.
func TestRedactedEventsAreWritten(t *testing.T) {
	for _, e := range events()[1:4] {
		if line := (output.JSON{}).Append(nil, New().Event(e)); !bytes.HasSuffix(line, []byte("}\n")) {
			t.Errorf("line %q", line)
		}
	}
}
