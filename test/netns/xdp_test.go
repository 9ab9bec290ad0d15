package netns

import (
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"xentrace/internal/demo/network"
	"xentrace/test/tool"
	"xentrace/test/xdpframes"
)

// Frames that an XDP program redirects to an interface are counted apart from its packets;
// those that its driver does not accept as well.
func TestXDPFrames(t *testing.T) {
	const sent, refused, bytes, maxMTU = 640, 64, 300, 600
	l := newLab(t)
	index := 0
	must(t, l.near.Namespace.Do(func() error {
		device, err := net.InterfaceByName("near")
		if err == nil {
			index = device.Index
		}
		return err
	}))
	redirect := func(n, bytes int) {
		must(t, l.near.Namespace.Do(func() error { return xdpframes.Redirect(index, n, bytes) }))
	}
	detach := discardFrames(t, l.far)
	must(t, l.far.Namespace.Do(func() error {
		far, err := netlink.LinkByName(l.far.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(far, maxMTU)
	}))
	defer detach()
	run := tool.Start(t, xentrace, "hist", "-i", "near", "-o", "json", "-d", "0")
	redirect(sent, bytes)
	redirect(refused, maxMTU+100) // over what the other end accepts
	output := run.Stop()
	i := output.Only(t)
	if i.XDPPackets == nil || i.XDPDropped == nil {
		t.Fatalf("frames of XDP are not counted: %v", output.Summary.Missing)
	}
	if *i.XDPPackets != sent || *i.XDPDropped != refused {
		t.Errorf("%d frames of XDP, %d not accepted, want %d and %d", *i.XDPPackets, *i.XDPDropped, sent, refused)
	}
	// A veth counts what the other end does not accept as dropped; xen-netfront would not.
	if i.Packets > 10 || i.Dropped != 0 || *i.TxDroppedDelta != refused {
		t.Errorf("%d packets, %d dropped, tx_dropped %d: want none of the frames, and %d", i.Packets, i.Dropped, *i.TxDroppedDelta, refused)
	}
}

// discardFrames has an XDP program on an interface drop whatever it receives.
func discardFrames(t *testing.T, e network.End) (detach func()) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 1), // XDP_DROP
		asm.Return(),
	}})
	must(t, err)
	var attached link.Link
	must(t, e.Namespace.Do(func() error {
		device, err := net.InterfaceByName(e.Name)
		if err == nil {
			attached, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: device.Index, Flags: link.XDPDriverMode})
		}
		return err
	}))
	return func() {
		must(t, attached.Close())
		must(t, program.Close())
	}
}
