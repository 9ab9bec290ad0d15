package bpf

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"xentrace/test/need"
)

// Where the parts of a fake packet are in the arena, in bytes.
const (
	arenaSize  = 1 << 18
	atSkb      = 0x0000
	atDev      = 0x1000
	atNet      = 0x3000
	atOps      = 0x7000
	atPriv     = 0x7800
	atCopy     = 0x8000 // a second sk_buff
	atShared   = 0x9000
	atSock     = 0xa000
	atTx       = 0x1f000 // the device's transmit queues
	atHead     = 0x20000
	fakeIndex  = 7
	fakeNetNS  = 4026531840
	fakeXmit   = 0xffffffffc0001230
	fakeSlotID = 3 // index of the counters
)

// arena is kernel memory that the test can write: the value of an array map,
// whose address a program published. Fake packets are laid out there as the running
// kernel's BTF says, and their addresses given to the real programs.
type arena struct {
	t       testing.TB
	fake    *ebpf.Map
	memory  []byte // written to the kernel by flush
	address uint64
	types   *btf.Spec
}

func newArena(t testing.TB) *arena {
	t.Helper()
	return newArenaOf(t, arenaSize)
}

func newArenaOf(t testing.TB, size int) *arena {
	t.Helper()
	need.Root(t, "to load BPF programs")
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	fake, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(size), MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fake.Close() })
	return &arena{t: t, fake: fake, memory: make([]byte, size), address: addressOf(t, fake), types: types}
}

// addressOf has a program return where the map's value is in the kernel.
func addressOf(t testing.TB, fake *ebpf.Map) uint64 {
	t.Helper()
	published, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = published.Close() }()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R1, fake.FD(), 0),
		asm.LoadMapValue(asm.R2, published.FD(), 0),
		asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	if _, err := program.Run(&ebpf.RunOptions{Context: [1]uint64{}}); err != nil {
		t.Fatal(err)
	}
	var address uint64
	if err := published.Lookup(uint32(0), &address); err != nil {
		t.Fatal(err)
	}
	return address
}

// page returns the first address of a page in the arena, for heads.
func (a *arena) page() uint64 { return (a.address+atHead)&^4095 + 4096 }

// flush writes the arena to the kernel.
func (a *arena) flush() {
	a.t.Helper()
	if err := a.fake.Put(uint32(0), a.memory); err != nil {
		a.t.Fatal(err)
	}
}

// offset returns where a member is in a kernel type, members of anonymous
// ones included, and how long it is.
func (a *arena) offset(structure string, path ...string) (offset, size int) {
	a.t.Helper()
	var s *btf.Struct
	if err := a.types.TypeByName(structure, &s); err != nil {
		a.t.Fatalf("struct %s: %v", structure, err)
	}
	var at btf.Type = s
	for _, name := range path {
		member, bits, ok := findMember(at, name)
		if !ok {
			a.t.Fatalf("struct %s has no member %s", structure, name)
		}
		offset += bits / 8
		at = member.Type
	}
	size, err := btf.Sizeof(at)
	if err != nil {
		a.t.Fatal(err)
	}
	return offset, size
}

func findMember(t btf.Type, name string) (btf.Member, int, bool) {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		if m.Name == name {
			return m, int(m.Offset), true
		}
		if m.Name == "" {
			if inner, bits, ok := findMember(m.Type, name); ok {
				return inner, int(m.Offset) + bits, true
			}
		}
	}
	return btf.Member{}, 0, false
}

// set writes a member of the kernel type at that address.
func (a *arena) set(at int, value uint64, structure string, path ...string) {
	a.t.Helper()
	offset, size := a.offset(structure, path...)
	var bytes [8]byte
	binary.NativeEndian.PutUint64(bytes[:], value)
	copy(a.memory[at+offset:at+offset+size], bytes[:size])
}

// device lays out the fake interface: watched, with carrier and scatter-gather.
func (a *arena) device() {
	a.set(atDev, fakeIndex, "net_device", "ifindex")
	a.set(atDev, 1, "net_device", "type") // ARPHRD_ETHER
	a.set(atDev, 1, "net_device", "real_num_tx_queues")
	a.set(atDev, 1, "net_device", "features") // NETIF_F_SG
	a.set(atDev, a.address+atOps, "net_device", "netdev_ops")
	a.set(atDev, a.address+atNet, "net_device", "nd_net", "net")
	a.set(atDev, a.address+atTx, "net_device", "_tx")
	for queue := range fakeQueues {
		a.lock(queue, -1)
	}
	a.set(atNet, fakeNetNS, "net", "ns", "inum")
	a.set(atOps, fakeXmit, "net_device_ops", "ndo_start_xmit")
}

// fakeQueues is how many transmit queues the fake interface has.
const fakeQueues = 2

// lock makes a CPU the one that transmits on a queue, or none.
func (a *arena) lock(queue, cpu int) {
	var s *btf.Struct
	if err := a.types.TypeByName("netdev_queue", &s); err != nil {
		a.t.Fatal(err)
	}
	a.set(atTx+queue*int(s.Size), uint64(uint32(int32(cpu))), "netdev_queue", "xmit_lock_owner")
}

// fakeFrag is one fragment: where it starts in its page, and its bytes.
type fakeFrag [2]uint32

// packet lays out an sk_buff with its shared info. Of its data only headers
// exist, copied to where skb->data points.
func (a *arena) packet(at int, data uint64, headLen uint32, frags []fakeFrag) {
	dataLen := uint32(0)
	for _, f := range frags {
		dataLen += f[1]
	}
	a.set(at, a.address+atDev, "sk_buff", "dev")
	a.set(at, 0, "sk_buff", "sk")
	a.set(at, uint64(headLen+dataLen), "sk_buff", "len")
	a.set(at, uint64(dataLen), "sk_buff", "data_len")
	a.set(at, data, "sk_buff", "data")
	a.set(at, a.address+atShared, "sk_buff", "head") // shared info is at head + end
	a.set(at, 0, "sk_buff", "end")
	a.set(atShared, uint64(len(frags)), "skb_shared_info", "nr_frags")
	a.set(atShared, 0, "skb_shared_info", "gso_size")
	first, _ := a.offset("skb_shared_info", "frags")
	for i, f := range frags {
		// Both kinds of skb_frag_t: the page in 8 bytes, length, offset.
		frag := a.memory[atShared+first+i*16:]
		binary.NativeEndian.PutUint32(frag[8:], f[1])
		binary.NativeEndian.PutUint32(frag[12:], f[0])
	}
}
