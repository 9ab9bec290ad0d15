package netns

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Hooks of netfilter, by their numbers.
const (
	inputHook  = 1
	outputHook = 3
)

// dropAt makes the packet filter drop all of IPv4 at a hook, in the namespace of the
// test: a base chain whose policy is to drop, and no rule in it.
func dropAt(t *testing.T, hook uint32) {
	t.Helper()
	const accept, create, batch = unix.NLM_F_REQUEST, unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_ACK, unix.NFNL_SUBSYS_NFTABLES << 8
	name := nl.ZeroTerminated("xentrace")
	place := nl.NewRtAttr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, nil)
	place.AddRtAttr(unix.NFTA_HOOK_HOOKNUM, binary.BigEndian.AppendUint32(nil, hook))
	place.AddRtAttr(unix.NFTA_HOOK_PRIORITY, make([]byte, 4))
	message := slices.Concat(
		filterMessage(unix.NFNL_MSG_BATCH_BEGIN, accept, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
		filterMessage(batch|unix.NFT_MSG_NEWTABLE, create, unix.AF_INET, 0, nl.NewRtAttr(unix.NFTA_TABLE_NAME, name)),
		filterMessage(batch|unix.NFT_MSG_NEWCHAIN, create, unix.AF_INET, 0,
			nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, name), nl.NewRtAttr(unix.NFTA_CHAIN_NAME, name), place,
			nl.NewRtAttr(unix.NFTA_CHAIN_POLICY, make([]byte, 4)), // NF_DROP
			nl.NewRtAttr(unix.NFTA_CHAIN_TYPE, nl.ZeroTerminated("filter"))),
		filterMessage(unix.NFNL_MSG_BATCH_END, accept, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
	)
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	must(t, err)
	defer socket.Close()
	must(t, unix.Sendto(socket.GetFd(), message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	for range 2 { // the table's answer, the chain's
		answers, _, err := socket.Receive()
		must(t, err)
		for _, answer := range answers {
			if code := int32(binary.NativeEndian.Uint32(answer.Data)); answer.Header.Type == unix.NLMSG_ERROR && code != 0 {
				must(t, errors.Join(errors.New("packet filter"), unix.Errno(-code)))
			}
		}
	}
}

// filterMessage is one message to the packet filter, for a family or a resource.
func filterMessage(kind int, flags int, family uint8, resource uint16, attributes ...*nl.RtAttr) []byte {
	request := nl.NewNetlinkRequest(kind, flags)
	request.AddRawData(append([]byte{family, 0}, binary.BigEndian.AppendUint16(nil, resource)...))
	for _, attribute := range attributes {
		request.AddRawData(attribute.Serialize())
	}
	return request.Serialize()
}

// What the packet filter drops on the way out is reported before the packet has a
// device, let alone a link header; what it drops on the way in is not.
func TestPacketFilter(t *testing.T) {
	const n = 20
	t.Run("on the way out", func(t *testing.T) {
		l := newLab(t)
		sink := l.udpSink(farAddress.Addr())
		dropAt(t, outputHook)
		watch := watchAll(t)
		conn, err := net.Dial("udp4", sink.Local().String())
		must(t, err)
		defer func() { _ = conn.Close() }()
		for range n {
			if _, err := conn.Write(make([]byte, payload)); !errors.Is(err, unix.EPERM) {
				t.Fatalf("error %v, want what the packet filter gives", err)
			}
		}
		output := watch.Stop()
		checkReasons(t, &output, "NETFILTER_DROP")
		for _, p := range onlyElsewhere(t, &output, n) {
			if p.Flow.Daddr != farAddress.Addr().String() || p.Flow.Dport != int(sink.Local().Port()) || p.Len != frameLength-14 {
				t.Fatalf("record %s: want %d bytes to %v", &p, frameLength-14, sink.Local())
			}
			if !strings.HasPrefix(p.Stack[0], "nf") || !contains(p.Stack, "nf_hook_slow") || !contains(p.Stack, "udp_sendmsg") {
				t.Fatalf("stack %q: want it to begin in netfilter", p.Stack)
			}
		}
	})
	t.Run("on the way in", func(t *testing.T) {
		l := newLab(t)
		dropAt(t, inputHook)
		watch := watchAll(t)
		before := received(t, "near")
		must(t, l.far.Namespace.Do(func() error {
			datagrams(t, netip.AddrPortFrom(nearAddress.Addr(), 9), n)
			return nil
		}))
		if now := received(t, "near"); now-before < n {
			t.Errorf("%d received by near, want %d", now-before, n)
		}
		output := watch.Stop()
		onlyElsewhere(t, &output, 0)
	})
}
