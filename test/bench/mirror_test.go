package bench

import (
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
)

// clones is how many packets a port mirror makes of one.
const clones = 100

var (
	feedNear = netip.MustParsePrefix("10.97.1.1/24")
	feedFar  = netip.MustParsePrefix("10.97.1.2/24")
)

// longerThan is the length of packets that are mirrored: not an acknowledgement.
const longerThan = 1000

// The place of len in struct __sk_buff.
const skbLen = 0

// Verdicts of a classifier: TC_ACT_OK and TC_ACT_SHOT.
const (
	actOK   = 0
	actShot = 2
)

// mirror clones each long packet out of another interface, and ends with verdict.
func mirror(ifindex, copies int, verdict int32) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, skbLen, asm.Word),
		asm.JLE.Imm(asm.R1, longerThan, "pass"),
	}
	for range copies {
		p = append(p,
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, int32(ifindex)), asm.Mov.Imm(asm.R3, 0),
			asm.FnCloneRedirect.Call())
	}
	return append(p,
		asm.Mov.Imm(asm.R0, verdict), asm.Return(),
		asm.Mov.Imm(asm.R0, actOK).WithSymbol("pass"), asm.Return())
}

// feed makes another veth pair, whose outgoing packets the classifier gets, and
// returns the address of its far end.
func (l *lab) feed(classifier asm.Instructions) netip.Addr {
	l.tb.Helper()
	a := network.End{Namespace: l.near.Namespace, Name: "feed", Addresses: []netip.Prefix{feedNear}}
	b := network.End{Namespace: l.far.Namespace, Name: "eater", Addresses: []netip.Prefix{feedFar}}
	must(l.tb, network.Join(a, b, 1500))
	must(l.tb, rlimit.RemoveMemlock())
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: classifier})
	must(l.tb, err)
	defer func() { must(l.tb, program.Close()) }() // the filter holds it
	link, err := netlink.LinkByName(a.Name)
	must(l.tb, err)
	index := link.Attrs().Index
	must(l.tb, netlink.QdiscReplace(&netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}))
	must(l.tb, netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
		Fd:          program.FD(), Name: "mirror", DirectAction: true,
	}))
	return feedFar.Addr()
}
