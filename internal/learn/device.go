package learn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
)

// deviceBytes is more than net_device has up to its last member that is looked for.
const deviceBytes = 4096

// A device is a net_device with what is known of it.
type device struct {
	at                uint64
	name              string
	index, kind       uint64
	transmit, receive uint64 // queues in use
	function          string // that transmits
}

func (d *device) specimen(l *lab) specimen { return specimen{d.at, l.memory.at(d.at, deviceBytes)} }

// devices finds the members of net_device and of what it refers to.
func (l *lab) devices() error {
	devices, err := l.allDevices()
	if err != nil {
		return err
	}
	l.memory.fresh()
	var images []specimen
	for i := range devices {
		images = append(images, devices[i].specimen(l))
	}
	of := func(member func(*device) uint64) func(int, uint64) bool {
		return func(n int, value uint64) bool { return value == member(&devices[n]) }
	}
	settle := func(name string, size int, places []int) error {
		return l.layout.settle("net_device."+name, size, places)
	}
	var names []int
	for at := range deviceBytes - 16 {
		if !slices.ContainsFunc(indices(images), func(n int) bool {
			return !bytes.HasPrefix(part(images[n].image, at, 16), append([]byte(devices[n].name), 0))
		}) {
			names = append(names, at)
		}
	}
	return errors.Join(
		settle("name", 16, names),
		settle("ifindex", 4, places(images, 4, of(func(d *device) uint64 { return d.index }))),
		settle("type", 2, places(images, 2, of(func(d *device) uint64 { return d.kind }))),
		settle("real_num_tx_queues", 4, places(images, 4, of(func(d *device) uint64 { return d.transmit }))),
		l.learnNamespace(images), l.learnOperations(images, devices), l.learnQueueTable(images, devices),
		l.learnState(), l.learnFeatures(),
	)
}

func indices[T any](of []T) []int {
	all := make([]int, len(of))
	for n := range all {
		all[n] = n
	}
	return all
}

// allDevices are the taps, lo, and one with more queues to receive than to send.
func (l *lab) allDevices() ([]device, error) {
	var all []device
	for n, t := range l.taps {
		kind := uint64(unix.ARPHRD_ETHER)
		if n == 3 {
			kind = unix.ARPHRD_NONE
		}
		at, err := l.deviceOf(t.index)
		if err != nil {
			return nil, err
		}
		t.address = at
		queues := uint64(len(t.queues))
		all = append(all, device{at, t.name, uint64(t.index), kind, queues, queues, "tun_net_xmit"})
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.Index, attributes.NumTxQueues, attributes.NumRxQueues = "learnx", 0x50500, 3, 5
	// Of the drivers that are always there, only this one has its queues locked while it transmits.
	ifb := &netlink.Ifb{LinkAttrs: attributes}
	if err := netlink.LinkAdd(ifb); err != nil {
		return nil, fmt.Errorf("interface of the driver ifb: %w; modprobe ifb", err)
	}
	l.ifb = attributes.Index
	if err := errors.Join(netlink.LinkSetARPOff(ifb), netlink.LinkSetUp(ifb)); err != nil {
		return nil, err
	}
	at, err := l.deviceOf(l.ifb)
	if err != nil {
		return nil, err
	}
	all = append(all, device{at, attributes.Name, uint64(l.ifb), unix.ARPHRD_ETHER, 3, 5, "ifb_xmit"})
	at, err = l.deviceOf(1)
	return append(all, device{at, "lo", 1, unix.ARPHRD_LOOPBACK, 1, 1, "loopback_xmit"}), err
}

// deviceOf returns the address of an interface's net_device: a frame is sent on it.
func (l *lab) deviceOf(index int) (uint64, error) {
	if err := l.hook.want(0); err != nil {
		return 0, err
	}
	frame := make([]byte, 60)
	frame[12], frame[14] = 0x08, 0x45
	if err := l.raw.send(index, frame, 0); err != nil {
		return 0, err
	}
	s, err := l.hook.sighting()
	if err == nil && s.Count != 1 {
		err = fmt.Errorf("interface %d: a frame was seen %d times", index, s.Count)
	}
	return s.Device, err
}

// namespace returns the number of the calling thread's network namespace.
func namespace() (uint64, error) {
	var status unix.Stat_t
	err := unix.Stat("/proc/thread-self/ns/net", &status)
	return status.Ino, err
}

// learnNamespace finds net_device.nd_net and the number of a namespace.
func (l *lab) learnNamespace(images []specimen) error {
	inum, err := namespace()
	if err != nil {
		return err
	}
	var pointers, numbers []int
	for _, at := range places(images, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
		net := number(images[0].image, at, 8)
		if slices.ContainsFunc(images, func(s specimen) bool { return number(s.image, at, 8) != net }) {
			continue
		}
		if found := places([]specimen{{net, l.memory.at(net, 1024)}}, 4, equal([]uint64{inum})); len(found) > 0 {
			pointers, numbers = append(pointers, at), append(numbers, found...)
		}
	}
	return errors.Join(l.layout.settle("net_device.nd_net", 8, pointers), l.layout.settle("net.ns.inum", 4, numbers))
}

// learnOperations finds net_device.netdev_ops and ndo_start_xmit in them, by the functions of
// the kernel's own drivers.
func (l *lab) learnOperations(images []specimen, devices []device) error {
	names := []string{"tun_net_xmit", "ifb_xmit", "loopback_xmit"}
	symbols, err := kernel.ReadSymbols(kernel.Wanted{Names: names})
	if err != nil {
		return err
	}
	if err := symbols.Addresses(); err != nil {
		return err
	}
	functions := make(map[string][]kernel.Symbol)
	for _, name := range names {
		functions[name] = symbols.Functions(name)
	}
	var operations, transmits []int
	for _, at := range places(images, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
		var tables []specimen
		for n := range images {
			table := number(images[n].image, at, 8)
			tables = append(tables, specimen{table, l.memory.at(table, 256)})
		}
		if found := places(tables, 8, func(n int, value uint64) bool {
			return value != 0 && slices.ContainsFunc(functions[devices[n].function], func(s kernel.Symbol) bool { return s.Address == value })
		}); len(found) > 0 {
			operations, transmits = append(operations, at), append(transmits, found...)
		}
	}
	return errors.Join(l.layout.settle("net_device.netdev_ops", 8, operations), l.layout.settle("net_device_ops.ndo_start_xmit", 8, transmits))
}

// learnQueueTable finds net_device._tx, and the size of a netdev_queue, whose first member is dev.
func (l *lab) learnQueueTable(images []specimen, devices []device) error {
	var tables []int
	var sizes []int
	for _, at := range places(images, 8, func(n int, value uint64) bool {
		return isPointer(value) && value != devices[n].at && l.memory.word(value) == devices[n].at
	}) {
		size := 0
		for try := 64; try <= 1024 && size == 0; try += 8 {
			all := true
			for n := range images {
				table := number(images[n].image, at, 8)
				for q := range devices[n].transmit {
					all = all && l.memory.word(table+q*uint64(try)) == devices[n].at
				}
			}
			if all {
				size = try
			}
		}
		// The table of the queues to receive begins alike, and one device has more of those.
		if slices.ContainsFunc(indices(images), func(n int) bool {
			d := &devices[n]
			next := number(images[n].image, at, 8) + d.transmit*uint64(size)
			return d.receive > d.transmit && l.memory.word(next) == d.at
		}) {
			continue
		}
		if size > 0 {
			tables, sizes = append(tables, at), append(sizes, size)
		}
	}
	err := l.layout.settle("net_device._tx", 8, tables)
	if err == nil {
		l.layout["netdev_queue"] = Member{0, sizes[0]}
	}
	return err
}

// learnLock finds netdev_queue.xmit_lock_owner: the CPU that transmits, -1 before and after.
func (l *lab) learnLock() error {
	device, err := l.deviceOf(l.ifb)
	if err != nil {
		return err
	}
	table, known := l.layout["net_device._tx"]
	mapping, too := l.layout["sk_buff.queue_mapping"]
	if !known || !too {
		return nil
	}
	size := l.layout["netdev_queue"].Size
	first := l.memory.word(device + uint64(table.Offset))
	var images []specimen
	var owners []uint64
	// The kernel chooses the queue by what is in the frame.
	for n := 0; n < 60 && len(images) < 12; n++ {
		queue := first + uint64(n%3*size)
		frame := make([]byte, 60)
		binary.NativeEndian.PutUint64(frame[26:], rand.Uint64()) // addresses
		binary.NativeEndian.PutUint64(frame[34:], rand.Uint64()) // ports
		frame[12], frame[14], frame[23] = 0x08, 0x45, unix.IPPROTO_UDP
		if err := errors.Join(l.hook.wantBeside(device, queue), l.raw.send(l.ifb, frame, 0)); err != nil {
			return err
		}
		s, err := l.hook.sighting()
		if err != nil {
			return err
		}
		if s.Count != 1 || number(s.Image[:], mapping.Offset, 2) != uint64(n%3) {
			continue
		}
		l.memory.fresh()
		images = append(images, specimen{queue, s.Copy[:min(size, besideBytes)]}, specimen{queue, bytes.Clone(l.memory.at(queue, min(size, besideBytes)))})
		owners = append(owners, s.CPU, 1<<32-1)
	}
	return l.layout.settle("netdev_queue.xmit_lock_owner", 4, places(images, 4, equal(owners)))
}

// snapshots are a device in several states.
func (l *lab) snapshot(t *tap) specimen {
	l.memory.fresh()
	return specimen{t.address, bytes.Clone(l.memory.at(t.address, deviceBytes))}
}

// learnState finds net_device.state by its bits for a device that is up and one without a
// carrier, and flags.
func (l *lab) learnState() error {
	t := l.taps[0]
	link, err := netlink.LinkByName(t.name)
	if err != nil {
		return err
	}
	const start, noCarrier = 1 << 0, 1 << 2
	var images []specimen
	var states, flags []uint64
	for _, s := range []struct{ up, carrier, all bool }{{true, true, false}, {true, false, true}, {false, true, false}, {true, true, true}, {true, false, false}, {true, true, false}} {
		set := map[bool]func(netlink.Link) error{true: netlink.LinkSetUp, false: netlink.LinkSetDown}[s.up]
		multicast := map[bool]func(netlink.Link) error{true: netlink.LinkSetAllmulticastOn, false: netlink.LinkSetAllmulticastOff}[s.all]
		if err := errors.Join(set(link), t.carrier(s.carrier), multicast(link)); err != nil {
			return err
		}
		now, err := netlink.LinkByName(t.name)
		if err != nil {
			return err
		}
		state := uint64(0)
		if s.up {
			state |= start
		}
		if !s.carrier {
			state |= noCarrier
		}
		images, states = append(images, l.snapshot(t)), append(states, state)
		flags = append(flags, uint64(now.Attrs().RawFlags)&^(unix.IFF_RUNNING|unix.IFF_LOWER_UP|unix.IFF_DORMANT))
	}
	return errors.Join(
		l.layout.settle("net_device.state", 8, places(images, 8, func(n int, value uint64) bool {
			return value < 1<<12 && value&(start|noCarrier) == states[n]
		})),
		l.layout.settle("net_device.flags", 4, places(images, 4, equal(flags))),
	)
}

// learnFeatures finds net_device.features: scatter-gather takes what depends on it with it, other
// than in the members that hold what is wanted or possible.
func (l *lab) learnFeatures() error {
	t := l.taps[0]
	var images []specimen
	on := []bool{true, false, true, false}
	for _, sg := range on {
		if err := offload(t.name, unix.ETHTOOL_SSG, sg); err != nil {
			return err
		}
		images = append(images, l.snapshot(t))
	}
	err := offload(t.name, unix.ETHTOOL_SSG, true)
	first := func(at int) uint64 { return number(images[0].image, at, 8) }
	second := func(at int) uint64 { return number(images[1].image, at, 8) }
	found := slices.DeleteFunc(places(images, 8, func(n int, value uint64) bool { return value&1 != 0 == on[n] && value != 0 }), func(at int) bool {
		return bits.OnesCount64(first(at)^second(at)) <= 2 || isPointer(first(at)) // NETIF_F_SG and NETIF_F_FRAGLIST
	})
	return errors.Join(err, l.layout.settle("net_device.features", 8, found))
}

// offload switches one by ethtool's command for it.
func offload(name string, command uint32, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, on uint32 }{command, 0}
	if on {
		value.on = 1
	}
	request := struct {
		name [16]byte
		data unsafe.Pointer
		rest [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("offload of %s: %w", name, errno)
	}
	return nil
}
