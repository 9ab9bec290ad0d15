package netns

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

const (
	rocketsEach  = 100 // of each sender of rockets
	ordinaryEach = 20  // datagrams, or segments, between two rockets
)

// origin shows whose rocket a record is of. UDP has no sequence number.
type origin struct {
	proto, saddr, daddr string
	sport, dport        int
	seq                 uint32
}

// launched is how often a rocket was sent and how many slots its fragments
// need with a head of one slot.
type launched struct{ times, slots int }

// A mixture is a sender of rockets with ordinary traffic next to it.
type mixture struct {
	proto   string
	rockets interface {
		Send(context.Context) (rocket.Sent, error)
	}
	ordinary func(context.Context) error
	sent     map[origin]launched
}

func (m *mixture) send(ctx context.Context) error {
	m.sent = make(map[origin]launched)
	for range rocketsEach {
		if err := m.ordinary(ctx); err != nil {
			return err
		}
		s, err := m.rockets.Send(ctx)
		if err != nil {
			return err
		}
		o := origin{m.proto, s.Local.Addr().String(), s.Remote.Addr().String(), int(s.Local.Port()), int(s.Remote.Port()), 0}
		if m.proto == "tcp" {
			if !s.SeqKnown {
				return errors.New("sequence number is not known")
			}
			o.seq = s.Seq
		}
		m.sent[o] = launched{m.sent[o].times + 1, s.Slots}
	}
	return nil
}

// udpMixture sends rockets over UDP, and datagrams next to.
func (l *lab) udpMixture(at netip.Addr) *mixture {
	l.t.Helper()
	sink := l.udpSink(at)
	datagrams, err := rocket.NewDatagrams(l.t.Context(), sink.Local(), rocket.Options{})
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, datagrams.Close()) })
	return &mixture{proto: "udp", rockets: l.udp(sink.Local(), rocket.Options{}),
		ordinary: func(ctx context.Context) error { return datagrams.Send(ctx, ordinaryEach, 200) }}
}

// tcpMixture sends rockets over TCP, and segments over the same connection.
func (l *lab) tcpMixture(at netip.Addr) *mixture {
	l.t.Helper()
	sender := l.tcp(l.tcpSink(at).Local(), rocket.Options{})
	stream := sender.Stream()
	return &mixture{proto: "tcp", rockets: sender,
		ordinary: func(ctx context.Context) error { return stream.Segments(ctx, ordinaryEach, 200) }}
}

// Rockets among ordinary packets, from one thread after the other and from
// several at once: each is reported once, and nothing else is.
func TestRocketsAmongOrdinaryPackets(t *testing.T) {
	v4, v6 := farAddress.Addr(), farAddress6.Addr()
	for _, test := range []struct {
		name       string
		concurrent bool
		senders    func(*lab) []*mixture
	}{
		{"UDP, IPv4", false, func(l *lab) []*mixture { return []*mixture{l.udpMixture(v4)} }},
		{"UDP, IPv6", false, func(l *lab) []*mixture { return []*mixture{l.udpMixture(v6)} }},
		{"TCP, IPv4", false, func(l *lab) []*mixture { return []*mixture{l.tcpMixture(v4)} }},
		{"TCP, IPv6", false, func(l *lab) []*mixture { return []*mixture{l.tcpMixture(v6)} }},
		{"two senders at once", true, func(l *lab) []*mixture { return []*mixture{l.udpMixture(v4), l.udpMixture(v6)} }},
		{"four senders at once", true, func(l *lab) []*mixture {
			return []*mixture{l.udpMixture(v4), l.tcpMixture(v4), l.tcpMixture(v6), l.udpMixture(v6)}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			senders := test.senders(l)
			l.awaitSilence() // connections were made
			base := transmitted(t, l.near)
			watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json")
			if test.concurrent {
				sendAtOnce(t, senders)
			} else {
				must(t, senders[0].send(t.Context()))
			}
			l.awaitSilence() // the last acknowledgements
			output := watch.Stop()
			i := output.Only(t)
			rockets := uint64(len(senders) * rocketsEach)
			if counted := transmitted(t, l.near) - base; i.Packets != counted || i.Counted() != counted || counted < rockets*(ordinaryEach+1) {
				t.Errorf("%d packets, %d in the histogram, %d counted by the interface, at least %d sent",
					i.Packets, i.Counted(), counted, rockets*(ordinaryEach+1))
			}
			if i.OverLimit != rockets || output.Summary.Events != rockets || output.Summary.Lost.Ring != 0 || uint64(len(output.Packets)) != rockets {
				t.Errorf("%d over the limit, %d events, %d lost, %d records: want %d and none lost",
					i.OverLimit, output.Summary.Events, output.Summary.Lost.Ring, len(output.Packets), rockets)
			}
			checkOrigins(t, output.Packets, senders)
		})
	}
}

func sendAtOnce(t *testing.T, senders []*mixture) {
	t.Helper()
	results := make(chan error)
	for _, m := range senders {
		go func() { results <- m.send(t.Context()) }()
	}
	for range senders {
		must(t, <-results)
	}
}

// checkOrigins compares the records with what was sent, one for one.
func checkOrigins(t *testing.T, records []tool.Packet, senders []*mixture) {
	t.Helper()
	left := make(map[origin]launched)
	for _, m := range senders {
		for o, l := range m.sent {
			left[o] = l
		}
	}
	for n, p := range records {
		if p.Flow == nil {
			t.Errorf("record %d has no flow", n)
			continue
		}
		o := origin{p.Flow.Proto, p.Flow.Saddr, p.Flow.Daddr, p.Flow.Sport, p.Flow.Dport, 0}
		if p.TCP != nil {
			o.seq = p.TCP.Seq
			checkTCP(t, p.TCP)
		}
		rest := left[o]
		if rest.times == 0 {
			t.Errorf("record %d: of %+v there was none more", n, o)
			continue
		}
		left[o] = launched{rest.times - 1, rest.slots}
		head := (p.HeadOffset%4096 + p.HeadLen + 4095) / 4096
		if p.Slots != p.SlotsOfParts() || p.Slots-head != rest.slots-1 {
			t.Errorf("record %d: %d slots, %d of them its head, its parts need %d: sent %d with a head of 1", n, p.Slots, head, p.SlotsOfParts(), rest.slots)
		}
		if p.Verdict != "over_limit" || p.Cause != nil {
			t.Errorf("record %d: %s, cause %v", n, p.Verdict, p.Cause)
		}
	}
	for o, l := range left {
		if l.times != 0 {
			t.Errorf("%d of %+v not reported", l.times, o)
		}
	}
}

// checkTCP checks the state of a connection on which nothing else is under way.
func checkTCP(t *testing.T, tcp *tool.TCP) {
	t.Helper()
	length := uint32(17 * 80)
	if tcp.State != "ESTABLISHED" || tcp.SndUna != tcp.Seq || tcp.WriteSeq != tcp.Seq+length || tcp.SndQBytes != int(length) ||
		tcp.Retransmits != 0 || tcp.RTOms < 200 || tcp.RTOms > 2000 || tcp.SRTTus <= 0 {
		t.Errorf("state %+v, want one segment of %d bytes under way", *tcp, length)
	}
}
