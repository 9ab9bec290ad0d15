package bpf

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

const (
	atConn = 0xc000 // the fake connection tracking entry

	sourceNAT = 1 << 4 // of enum ip_conntrack_status
	confirmed = 1 << 3

	original, reply = 0, 3 // of enum ip_conntrack_info
)

// track lays out a tracked connection and gives it to the packet.
func (a *arena) track(status, info uint64, family uint16, proto uint8, tuples [2][2]netip.AddrPort) {
	a.t.Helper()
	a.set(atConn, status, "nf_conn", "status")
	hash, _ := a.offset("nf_conn", "tuplehash")
	_, size := a.offset("nf_conntrack_tuple_hash", "hnnode")
	tuple, length := a.offset("nf_conntrack_tuple_hash", "tuple")
	if size+length != tuple+length {
		a.t.Fatalf("tuple of %d bytes at %d", length, tuple)
	}
	for direction, addresses := range tuples {
		raw := a.memory[atConn+hash+direction*(tuple+length)+tuple:][:length]
		clear(raw)
		copy(raw, addresses[0].Addr().AsSlice())
		binary.BigEndian.PutUint16(raw[16:], addresses[0].Port())
		binary.NativeEndian.PutUint16(raw[18:], family)
		copy(raw[20:], addresses[1].Addr().AsSlice())
		binary.BigEndian.PutUint16(raw[36:], addresses[1].Port())
		raw[38], raw[39] = proto, byte(direction)
	}
	a.set(atSkb, (a.address+atConn)|info, "sk_buff", "_nfct")
}

// A packet's addresses before NAT are those of its direction, where NAT changed any.
func TestAddressesBeforeNAT(t *testing.T) {
	container, wire, server := netip.MustParseAddrPort("172.17.0.2:40000"), netip.MustParseAddrPort("192.0.2.1:61000"), netip.MustParseAddrPort("192.0.2.9:443")
	container6, wire6, server6 := netip.MustParseAddrPort("[fd00::2]:40000"), netip.MustParseAddrPort("[2001:db8::1]:61000"), netip.MustParseAddrPort("[2001:db8::9]:443")
	tuples := [2][2]netip.AddrPort{{container, server}, {server, wire}}
	tuples6 := [2][2]netip.AddrPort{{container6, server6}, {server6, wire6}}
	head4, head6 := join(ethernet(0x0800), inner4), join(ethernet(0x86dd), inner6)
	a := newArena(t)
	for _, typed := range waysOfReading(t, a) {
		r := newTracer(t, a, typed)
		for _, test := range []struct {
			name   string
			head   []byte
			status uint64
			info   uint64
			family uint16
			proto  uint8
			tuples [2][2]netip.AddrPort
			want   [2]netip.AddrPort
		}{
			{"masqueraded", head4, confirmed | sourceNAT, original, familyIPv4, 6, tuples, tuples[0]},
			{"its reply", head4, confirmed | sourceNAT, reply, familyIPv4, 6, tuples, tuples[1]},
			{"IPv6", head6, confirmed | sourceNAT, original, familyIPv6, 6, tuples6, tuples6[0]},
			{"a tunnel", join(overVXLAN, ethernet(0x0800), ipv4(1, 0, 0), make([]byte, 8)), confirmed | sourceNAT, original, familyIPv4, 17, tuples, [2]netip.AddrPort{}},
			{"without NAT", head4, confirmed, original, familyIPv4, 6, tuples, [2]netip.AddrPort{}},
			{"an error about the connection", join(ethernet(0x0800), ipv4(1, 0, 0), make([]byte, 8)), confirmed | sourceNAT, 1, familyIPv4, 6, tuples, [2]netip.AddrPort{}},
		} {
			t.Run(test.name, func(t *testing.T) {
				a.t, r.t = t, t
				r.lay(test.head)
				a.track(test.status, test.info, test.family, test.proto, test.tuples)
				defer a.set(atSkb, 0, "sk_buff", "_nfct")
				event := r.record()
				got, flagged := event.Inner, event.BeforeNat != 0
				var want XentraceFlow
				if from := test.want[0]; from.IsValid() {
					want = XentraceFlow{Family: 4, Proto: 6, Sport: from.Port(), Dport: test.want[1].Port()}
					if from.Addr().Is6() {
						want.Family = 6
					}
					copy(want.Saddr[:], from.Addr().AsSlice())
					copy(want.Daddr[:], test.want[1].Addr().AsSlice())
				}
				if test.name == "a tunnel" {
					want = XentraceFlow{Family: 4, Proto: 1}
					want.Saddr, want.Daddr = addresses(4)
				}
				if got != want || flagged != test.want[0].IsValid() {
					t.Errorf("before NAT %+v (%t), want %+v", got, flagged, want)
				}
			})
		}
	}
	r := newTracer(t, a, 0)
	r.lay(head4)
	if got := r.record().Inner; got != (XentraceFlow{}) {
		t.Errorf("before NAT %+v of a packet that is not tracked", got)
	}
}
