package netns

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A rewrite changes the headers of every packet that leaves an interface, after
// the stack and before the driver: what no socket sends can be sent that way.
type rewrite struct {
	at      int              // offset at which bytes are inserted
	insert  []byte           // inserted bytes
	patches map[int16][]byte // then written over what is there, by offset
	tag     bool             // put a VLAN tag next to the packet, as for hardware that inserts it
}

// strangeAddress is nobody's: the far end takes no notice of what is sent to it,
// and no error comes back to the sender.
var strangeAddress = []byte{0x02, 0, 0, 0, 0, 0x99}

// Where the program keeps bytes on its stack.
const (
	stackHead   = -128 // the headers before the inserted bytes
	stackInsert = -192
)

// program is a classifier that carries the rewrite out. What fails drops the
// packet, so that the test misses it.
func (r rewrite) program() asm.Instructions {
	p := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	if len(r.insert) > 0 {
		p = append(p, r.call(asm.FnSkbLoadBytes, 0, stackHead, r.at, false)...)
		p = append(p, asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, int32(len(r.insert))), asm.Mov.Imm(asm.R3, 0),
			asm.FnSkbChangeHead.Call(), asm.JNE.Imm(asm.R0, 0, "drop"))
		p = append(p, r.call(asm.FnSkbStoreBytes, 0, stackHead, r.at, true)...)
		p = append(p, r.store(int16(r.at), r.insert)...)
	}
	for offset, bytes := range r.patches {
		p = append(p, r.store(offset, bytes)...)
	}
	p = append(p, r.store(0, strangeAddress)...)
	if r.tag {
		p = append(p, asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, int32(binary.NativeEndian.Uint16([]byte{0x81, 0x00}))),
			asm.Mov.Imm(asm.R3, 42), asm.FnSkbVlanPush.Call(), asm.JNE.Imm(asm.R0, 0, "drop"))
	}
	const pass, drop = 0, 2                                               // TC_ACT_OK, TC_ACT_SHOT
	p = append(p, asm.Mov.Imm(asm.R0, 0), asm.JNE.Imm(asm.R0, 0, "drop")) // without it nothing may lead there
	return append(p, asm.Mov.Imm(asm.R0, pass), asm.Return(), asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"), asm.Return())
}

// call calls a function that copies between the packet and the stack.
func (r rewrite) call(function asm.BuiltinFunc, offset int16, stack, length int, flags bool) asm.Instructions {
	p := asm.Instructions{asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, int32(offset)), asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(stack)), asm.Mov.Imm(asm.R4, int32(length))}
	if flags {
		p = append(p, asm.Mov.Imm(asm.R5, 0))
	}
	return append(p, function.Call(), asm.JNE.Imm(asm.R0, 0, "drop"))
}

// store writes bytes into the packet.
func (r rewrite) store(offset int16, bytes []byte) asm.Instructions {
	var p asm.Instructions
	for i, b := range bytes {
		p = append(p, asm.StoreImm(asm.RFP, int16(stackInsert+i), int64(b), asm.Byte))
	}
	return append(p, r.call(asm.FnSkbStoreBytes, offset, stackInsert, len(bytes), true)...)
}

// classify has a program look at every packet that leaves an interface of the
// thread's namespace, in place of the one before.
func classify(t *testing.T, name string, instructions asm.Instructions) {
	t.Helper()
	must(t, rlimit.RemoveMemlock())
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: instructions})
	must(t, err)
	defer func() { must(t, program.Close()) }() // the filter holds it
	link, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.QdiscReplace(&netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}))
	must(t, netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Fd: program.FD(), Name: "test", DirectAction: true,
	}))
}
