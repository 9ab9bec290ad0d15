package bpf

import (
	"fmt"
	"testing"
)

// fakeSocket is what a socket says of itself.
type fakeSocket struct {
	family, kind, protocol uint16
	state                  uint8
}

// tcpFields is the TCP state of a record.
type tcpFields struct {
	SndUna, SndNxt, WriteSeq, RtoJiffies, SrttUs uint32
	State, Retransmits, Present                  uint8
}

func tcpOf(event *XentracePacketEvent) tcpFields {
	t := &event.Tcp
	return tcpFields{t.SndUna, t.SndNxt, t.WriteSeq, t.RtoJiffies, t.SrttUs, t.State, t.Retransmits, t.Present}
}

const (
	established, timeWait, closed, listening, newSynReceived = 1, 6, 7, 10, 12
	stream, datagram, rawSocket                              = 1, 2, 3
	familyUnix, familyIPv4, familyIPv6, familyPacket         = 1, 2, 10, 17
	protocolTCP, protocolUDP, protocolMPTCP                  = 6, 17, 262
)

// TCP state is taken from a full TCP socket only: the others are smaller, or
// something else lies where its fields are.
func TestTCPStateOfFakeSockets(t *testing.T) {
	a := newArena(t)
	full := tcpFields{SndUna: 0x10, SndNxt: 0x20000000, WriteSeq: 0xfffffff0, RtoJiffies: 204, SrttUs: 12345, Retransmits: 7, Present: 1}
	inState := func(state uint8) tcpFields {
		s := full
		s.State = state
		return s
	}
	for _, typed := range waysOfReading(t, a) {
		r := newTracer(t, a, typed)
		for _, test := range []struct {
			name   string
			socket *fakeSocket
			want   tcpFields
		}{
			{"none", nil, tcpFields{}},
			{"TCP over IPv4", &fakeSocket{familyIPv4, stream, protocolTCP, established}, inState(established)},
			{"TCP over IPv6", &fakeSocket{familyIPv6, stream, protocolTCP, established}, inState(established)},
			{"closed", &fakeSocket{familyIPv4, stream, protocolTCP, closed}, inState(closed)},
			{"listening", &fakeSocket{familyIPv4, stream, protocolTCP, listening}, inState(listening)},
			{"request", &fakeSocket{familyIPv4, stream, protocolTCP, newSynReceived}, tcpFields{}},
			{"time-wait", &fakeSocket{familyIPv6, stream, protocolTCP, timeWait}, tcpFields{}},
			{"control socket that resets come from", &fakeSocket{familyIPv4, rawSocket, protocolTCP, closed}, tcpFields{}},
			{"raw socket of a user", &fakeSocket{familyIPv6, rawSocket, protocolTCP, established}, tcpFields{}},
			{"UDP", &fakeSocket{familyIPv4, datagram, protocolUDP, closed}, tcpFields{}},
			{"MPTCP", &fakeSocket{familyIPv4, stream, protocolMPTCP, established}, tcpFields{}},
			{"packet socket", &fakeSocket{familyPacket, rawSocket, 0, closed}, tcpFields{}},
			{"Unix socket", &fakeSocket{familyUnix, stream, protocolTCP, established}, tcpFields{}},
		} {
			t.Run(fmt.Sprintf("%s typed %d", test.name, typed), func(t *testing.T) {
				a.t, r.t = t, t
				r.lay(join(ethernet(0x0800), ipv4(6, 0, 0), tcp()))
				if test.socket != nil {
					a.socket(*test.socket, full)
				}
				event := r.record()
				if got := tcpOf(event); got != test.want {
					t.Errorf("TCP state %+v, want %+v", got, test.want)
				}
				if event.Flow.Seq != sequence {
					t.Errorf("sequence number %d, want the packet's own", event.Flow.Seq)
				}
			})
		}
	}
}

// socket lays out a socket with the state of a TCP socket in it, whatever it is.
func (a *arena) socket(s fakeSocket, tcp tcpFields) {
	a.t.Helper()
	a.set(atSkb, a.address+atSock, "sk_buff", "sk")
	a.set(atSock, uint64(s.family), "sock", "__sk_common", "skc_family")
	a.set(atSock, uint64(s.state), "sock", "__sk_common", "skc_state")
	a.set(atSock, uint64(s.kind), "sock", "sk_type")
	a.set(atSock, uint64(s.protocol), "sock", "sk_protocol")
	a.set(atSock, uint64(tcp.SndUna), "tcp_sock", "snd_una")
	a.set(atSock, uint64(tcp.SndNxt), "tcp_sock", "snd_nxt")
	a.set(atSock, uint64(tcp.WriteSeq), "tcp_sock", "write_seq")
	a.set(atSock, uint64(tcp.SrttUs)<<3|5, "tcp_sock", "srtt_us")
	a.set(atSock, uint64(tcp.RtoJiffies), "inet_connection_sock", "icsk_rto")
	a.set(atSock, uint64(tcp.Retransmits), "inet_connection_sock", "icsk_retransmits")
}
