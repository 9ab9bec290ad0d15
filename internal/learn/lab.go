package learn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
)

// lab is where the experiments are made: a network namespace of its own.
type lab struct {
	memory      memory
	hook        *hook
	raw         packetSocket
	taps        []*tap
	count       uint64 // of packets that the hook saw
	packets     []packet
	layout      Layout
	ifb         int    // number of the interface
	descriptors uint64 // address of the array of this process's files
}

// own and peer are the addresses of both ends of a tap.
func (t *tap) own() netip.Addr  { return netip.AddrFrom4([4]byte{198, 18, t.network(), 1}) }
func (t *tap) peer() netip.Addr { return netip.AddrFrom4([4]byte{198, 18, t.network(), 2}) }

// network differs between up to 4 taps, whose indices differ above the lower 16 bits.
func (t *tap) network() byte { return byte(t.index)&^3 | byte(t.index>>16)&3 }

// rounds is how often the experiments are made at most: two that are certain have to agree.
const rounds = 4

// Find makes the experiments, each round with new numbers. It needs to be root of the machine, and
// takes half a minute. Errors that wrap [ErrUnsure] name the members that have no certain place.
func Find(ctx context.Context, reader kernel.CodeReader) (Layout, error) {
	var first Layout
	var failure error
	for range rounds {
		layout, err := onOwnThread(ctx, reader)
		switch {
		case errors.Is(err, ErrUnsure) && ctx.Err() == nil:
			failure = err
		case err != nil:
			return nil, err
		case first == nil:
			first = layout
		case maps.Equal(first, layout):
			return layout, nil
		default:
			return nil, fmt.Errorf("%w: two rounds do not agree", ErrUnsure)
		}
	}
	return nil, failure
}

// onOwnThread makes one round on a thread that gets a network namespace of its own, and ends.
func onOwnThread(ctx context.Context, reader kernel.CodeReader) (layout Layout, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		layout, err = round(ctx, reader)
	}()
	<-done
	return layout, err
}

func round(ctx context.Context, reader kernel.CodeReader) (Layout, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	l := &lab{memory: memory{ctx, reader, make(map[uint64][]byte)}, layout: make(Layout)}
	err := l.open()
	for _, experiment := range []func() error{
		l.devices, func() error { return l.ownPackets(ctx) }, l.learnLock, l.tasks, func() error { return l.sockets(ctx) },
	} {
		if err == nil || errors.Is(err, ErrUnsure) { // what else is not certain is to be named too
			err = errors.Join(err, experiment(), ctx.Err())
		}
	}
	return l.layout, errors.Join(err, l.close())
}

func (l *lab) open() (err error) {
	for _, setting := range []string{"net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"} {
		_ = os.WriteFile("/proc/sys/"+setting, []byte("1"), 0) // it would send packets of its own
	}
	if l.hook, err = newHook(); err != nil {
		return err
	}
	if l.raw, err = newPacketSocket(); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		// Each segment is to come by itself.
		err = errors.Join(netlink.LinkSetUp(lo), offload("lo", unix.ETHTOOL_STSO, false), offload("lo", unix.ETHTOOL_SGSO, false))
	}
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	for n, queues := range []int{1, 5, 3, 1} {
		kind := uint16(unix.IFF_TAP)
		if n == 3 {
			kind = unix.IFF_TUN
		}
		t, err := newTap(fmt.Sprintf("learn%d%c", n, 'a'+rand.IntN(26)), 0x10100*(n+1)+rand.IntN(200)+10, queues, kind)
		if err != nil {
			return err
		}
		l.taps = append(l.taps, t)
		address := &netlink.Addr{IPNet: netlink.NewIPNet(t.own().AsSlice())}
		address.Mask = []byte{255, 255, 255, 0}
		link, err := netlink.LinkByName(t.name)
		if err == nil {
			err = netlink.AddrAdd(link, address)
		}
		if err != nil {
			return fmt.Errorf("address of %s: %w", t.name, err)
		}
	}
	return nil
}

func (l *lab) close() error {
	var err error
	for _, t := range l.taps {
		err = errors.Join(err, t.close())
	}
	if l.raw > 0 {
		err = errors.Join(err, l.raw.close())
	}
	if l.hook != nil {
		err = errors.Join(err, l.hook.close())
	}
	return err
}

// ownPackets sends and examines packets.
func (l *lab) ownPackets(ctx context.Context) (unsure error) {
	for _, t := range l.taps[:3] {
		t.drain()
		if len(t.queues) > 1 {
			if err := l.hook.want(t.address); err != nil {
				return err
			}
			l.count = 0
			unsure = errors.Join(unsure, l.learnQueues(t))
			continue
		}
		if err := errors.Join(l.connects(t, 3), l.frames(t, 12), l.segments(t, 8), l.fragments(ctx, t)); err != nil {
			return err
		}
		l.memory.fresh()
		unsure = errors.Join(unsure, l.learnPackets())
		t.drain()
	}
	return unsure
}
