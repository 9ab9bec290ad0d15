//go:build xenlab

package guest

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// Traffic of the main test: rockets among ordinary packets.
const (
	udpRocketPort   = 7001
	tcpRocketPort   = 7002
	udpOrdinaryPort = 7003
	tcpOrdinaryPort = 7004
	ordinaryLength  = 200
	settle          = 500 * time.Millisecond // quiet before and after
)

// mainAmount is how much the main test sends.
func mainAmount() amount { return amount{rockets: 200, datagrams: 20_000, bytes: 200_000} }

// amount is how much is sent.
type amount struct {
	rockets   int // over UDP, and as many over TCP
	datagrams int // ordinary ones
	bytes     int // of an ordinary TCP stream
}

// backends returns those that this kernel has.
func backends(t *testing.T) []string {
	t.Helper()
	var backends []string
	if realtime(t) {
		return backends // every one is refused (TestRealtimeKernel)
	}
	if driverTypes() {
		backends = append(backends, "fentry")
	}
	if hasKprobeEvents() {
		backends = append(backends, "kprobe")
	}
	return append(backends, "tracepoint")
}

// program is xentrace, next to the tests.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(self), "xentrace")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: build it before the suite is run (make build)", err)
	}
	return path
}

// sentRocket identifies a rocket by what its record must tell.
type sentRocket struct {
	proto string
	sport int
	seq   uint32
}

// traffic is what was sent.
type traffic struct {
	amount   amount
	rockets  map[sentRocket]rocket.Sent
	split    []rocket.Sent // segments that a cork of 200 ms did not hold together
	udpBytes uint64        // of rockets
	tcpBytes uint64
}

// send sends the traffic, one packet after the other. Where the driver drops
// rockets a connection that lost one is stuck, so that each has its own.
func send(t *testing.T, drops bool, much amount) traffic {
	t.Helper()
	ctx := t.Context()
	peer := peerAddr(t, "ipv4")
	sent := traffic{amount: much, rockets: make(map[sentRocket]rocket.Sent)}
	udp, err := rocket.NewUDP(ctx, netip.AddrPortFrom(peer, udpRocketPort), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	datagrams, err := rocket.NewDatagrams(ctx, netip.AddrPortFrom(peer, udpOrdinaryPort), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagrams.Close() }()
	stream, err := rocket.NewStream(ctx, netip.AddrPortFrom(peer, tcpOrdinaryPort), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	tcp := &tcpRockets{drops: drops, remote: netip.AddrPortFrom(peer, tcpRocketPort)}
	defer tcp.close(t)
	for range much.rockets {
		if err := datagrams.Send(ctx, much.datagrams/much.rockets, ordinaryLength); err != nil {
			t.Fatal(err)
		}
		if err := stream.Bulk(ctx, int64(much.bytes/much.rockets)); err != nil {
			t.Fatal(err)
		}
		one, err := udp.Send(ctx)
		if err != nil {
			t.Fatal(err)
		}
		// UDP has no sequence number: here it is the number of the datagram.
		sent.rockets[sentRocket{"udp", int(one.Local.Port()), uint32(one.Number)}] = one
		sent.udpBytes += uint64(one.Length)
		two := tcp.send(t)
		for ; two.Split; two = tcp.send(t) {
			sent.split = append(sent.split, two)
			sent.tcpBytes += uint64(two.Length)
		}
		sent.rockets[sentRocket{"tcp", int(two.Local.Port()), two.Seq}] = two
		sent.tcpBytes += uint64(two.Length)
	}
	return sent
}

// tcpRockets sends over one connection, or over a new one for each.
type tcpRockets struct {
	drops  bool
	remote netip.AddrPort
	sender *rocket.TCP
}

func (r *tcpRockets) send(t *testing.T) rocket.Sent {
	t.Helper()
	var err error
	if r.sender == nil {
		if r.sender, err = rocket.NewTCP(t.Context(), r.remote, rocket.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	sent, err := r.sender.Send(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !sent.SeqKnown {
		t.Fatal("the sequence number is not known: these tests run as root")
	}
	if r.drops {
		if err := r.sender.Abort(); err != nil {
			t.Fatal(err)
		}
		r.sender = nil
	}
	return sent
}

func (r *tcpRockets) close(t *testing.T) {
	t.Helper()
	if r.sender == nil {
		return
	}
	if err := r.sender.WaitAcknowledged(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.sender.Close(); err != nil {
		t.Error(err)
	}
}

// measured is what the interface counted while the tracer ran.
type measured struct {
	output  tool.Output
	sent    traffic
	packets uint64
	dropped uint64
}

// watchTraffic sends the traffic under the eyes of xentrace.
func watchTraffic(t *testing.T, backend string, drops bool, much amount, flags ...string) measured {
	t.Helper()
	ask(t, "reset")
	command := append([]string{program(t), "watch", "-o", "json", "--backend", backend}, flags...)
	run := tool.Start(t, command...)
	time.Sleep(settle)
	packets, dropped := counter(t, "tx_packets"), counter(t, "tx_dropped")
	began := time.Now()
	m := measured{sent: send(t, drops, much)}
	t.Logf("traffic took %v", time.Since(began))
	time.Sleep(settle)
	m.packets, m.dropped = counter(t, "tx_packets")-packets, counter(t, "tx_dropped")-dropped
	m.output = run.Stop()
	t.Logf("%s: ready after %d ms, %d KiB resident at most, %d ms of CPU; %d packets sent, %d dropped by the driver's counter, %d records",
		backend, run.Ready.Milliseconds(), m.output.MaxRSS, m.output.CPU.Milliseconds(), m.packets, m.dropped, len(m.output.Packets))
	return m
}

// checkRecords checks that every record is of a rocket, and every rocket has one.
func (m *measured) checkRecords(t *testing.T, verdict, cause string) {
	t.Helper()
	udp := 0
	tcp := make(map[sentRocket]int)
	for i := range m.output.Packets {
		p := &m.output.Packets[i]
		if p.Verdict != verdict || text(p.Cause) != cause || p.Ifname != ifname || p.Limit != limit {
			t.Fatalf("record %s: want verdict %q and cause %q on %s", p, verdict, cause, ifname)
		}
		if p.Slots <= limit || p.Slots != p.SlotsOfParts() {
			t.Fatalf("record of %d slots whose parts make %d: %s", p.Slots, p.SlotsOfParts(), p)
		}
		key := sentRocket{proto: p.Flow.Proto, sport: p.Flow.Sport}
		switch {
		case p.Flow.Proto == "udp":
			key.seq = uint32(udp) // their numbers, in the order in which they were sent
			udp++
		case p.TCP == nil:
			t.Fatalf("TCP record without state: %s", p)
		case m.sent.isSplit(p):
			continue
		default:
			key.seq = p.TCP.Seq
			tcp[key]++
		}
		m.checkFlow(t, p, key)
	}
	for key, sent := range m.sent.rockets {
		if key.proto == "tcp" && tcp[key] == 0 {
			t.Errorf("no record of the segment from port %d, seq %d", key.sport, sent.Seq)
		}
		if key.proto == "tcp" {
			delete(tcp, key)
		}
	}
	if rockets := m.sent.amount.rockets; udp != rockets || len(tcp) != 0 {
		t.Errorf("%d records of UDP and %d of segments that were not sent, want %d and 0", udp, len(tcp), rockets)
	}
}

// isSplit reports whether a record is of a part of a segment that left in parts.
func (s *traffic) isSplit(p *tool.Packet) bool {
	return slices.ContainsFunc(s.split, func(sent rocket.Sent) bool {
		return int(sent.Local.Port()) == p.Flow.Sport && p.TCP.Seq-sent.Seq < uint32(sent.Length)
	})
}

func (m *measured) checkFlow(t *testing.T, p *tool.Packet, key sentRocket) {
	t.Helper()
	sent, known := m.sent.rockets[key]
	if !known {
		t.Fatalf("record of a packet that is no rocket: %s", p)
	}
	want := tool.Flow{
		Family: "ipv4", Proto: key.proto,
		Saddr: sent.Local.Addr().String(), Sport: int(sent.Local.Port()),
		Daddr: sent.Remote.Addr().String(), Dport: int(sent.Remote.Port()),
	}
	if *p.Flow != want {
		t.Fatalf("flow %+v, want %+v", *p.Flow, want)
	}
	// The sender reckons with a head in one page; since 6.3 a small head may cross into a second.
	head := (p.HeadOffset%4096 + p.HeadLen + 4095) / 4096
	if p.Slots != sent.Slots+head-1 {
		t.Fatalf("%d slots with a head of %d, want the %d that were sent", p.Slots, head, sent.Slots)
	}
}

// checkTotals checks that the summary agrees with the interface, to the packet.
func (m *measured) checkTotals(t *testing.T) *tool.Interface {
	t.Helper()
	i := m.output.Only(t)
	if m.packets < uint64(m.sent.amount.datagrams) {
		t.Errorf("%d packets sent, want at least the %d ordinary ones", m.packets, m.sent.amount.datagrams)
	}
	if i.Counted() != m.packets+m.dropped || i.Packets != i.Counted() {
		t.Errorf("histogram of %d, %d packets: the interface sent %d and dropped %d", i.Counted(), i.Packets, m.packets, m.dropped)
	}
	if i.TxDroppedDelta == nil || *i.TxDroppedDelta != m.dropped || i.Dropped != m.dropped {
		t.Errorf("dropped %d, tx_dropped_delta %v: the driver counted %d", i.Dropped, i.TxDroppedDelta, m.dropped)
	}
	if got := uint64(len(m.output.Packets)); got != m.output.Summary.Events || m.output.Summary.Lost.Ring != 0 {
		t.Errorf("%d records, events %d, %d lost in the ring", got, m.output.Summary.Events, m.output.Summary.Lost.Ring)
	}
	return i
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// The driver as it was before the fix drops every rocket; Debian's linearizes it,
// and it arrives. Each is one record, and no other packet is.
func TestWatchRockets(t *testing.T) {
	drops := env(t, "XENTRACE_LAB_DRIVER") == "prefix"
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			m := watchTraffic(t, backend, drops, mainAmount())
			i := m.checkTotals(t)
			// What it read from the code of this very driver.
			notice := map[bool]string{true: "driver drops packets over the slot limit", false: "driver linearizes packets over the slot limit"}[drops]
			if !strings.Contains(m.output.Stderr, notice) {
				t.Errorf("notices %q, want %q among them", m.output.Stderr, notice)
			}
			if drops {
				m.checkRecords(t, "dropped", "too_many_slots")
				m.checkDropped(t, i)
				return
			}
			m.checkRecords(t, "linearized", "")
			if n, rockets := len(m.output.Packets), m.sent.amount.rockets; m.dropped != 0 || i.Linearized != uint64(n) || n < 2*rockets || n > 2*rockets+2*len(m.sent.split) {
				t.Errorf("%d dropped, %d linearized, %d records: want 0, and %d of both, with %d segments split", m.dropped, i.Linearized, n, 2*rockets, len(m.sent.split))
			}
			m.checkArrived(t)
		})
	}
}

// checkDropped checks that the records are as many as the driver's own drops.
func (m *measured) checkDropped(t *testing.T, i *tool.Interface) {
	t.Helper()
	if n, rockets := uint64(len(m.output.Packets)), uint64(m.sent.amount.rockets); n != m.dropped || n < 2*rockets {
		t.Errorf("%d records: the driver counted %d, and at least %d were sent", n, m.dropped, 2*rockets)
	}
	if i.Causes["too_many_slots"] != m.dropped || i.Linearized != 0 {
		t.Errorf("causes %v, %d linearized: want %d of too_many_slots", i.Causes, i.Linearized, m.dropped)
	}
}

// checkArrived checks that the peer received every byte.
func (m *measured) checkArrived(t *testing.T) {
	t.Helper()
	much := m.sent.amount
	for _, want := range []struct {
		proto     string
		port      int
		datagrams uint64
		bytes     uint64
	}{
		{"udp", udpRocketPort, uint64(much.rockets), m.sent.udpBytes},
		{"tcp", tcpRocketPort, 0, m.sent.tcpBytes},
		{"udp", udpOrdinaryPort, uint64(much.datagrams), uint64(much.datagrams * ordinaryLength)},
		{"tcp", tcpOrdinaryPort, 0, uint64(much.bytes)},
	} {
		got := received(t, want.proto, "ipv4", want.port, want.bytes)
		if got.Bytes != want.bytes || got.Datagrams != want.datagrams {
			t.Errorf("%s port %d: %d datagrams, %d bytes arrived, want %d, %d", want.proto, want.port, got.Datagrams, got.Bytes, want.datagrams, want.bytes)
		}
	}
}
