//go:build xenlab && matrix

package guest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	xdp "github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// A TAP device of the guest's, whose frames the guest forwards out of its
// interface. Their heads are in page fragments, at multiples of 64 bytes (the
// tun driver's tun_build_skb, 5.10 to 7.2), and so cross pages.
const (
	tapName   = "lab0"
	tapSource = "10.45.0.2"
	tapOwn    = "10.45.0.1"
	heldPort  = 7000
)

// frames is how the frames are made.
type frames struct {
	count    int
	pull     int // bytes at the front that an XDP program takes away again
	min, max int // payload
	// hold, if not 0, is after how many frames one comes that stays in this machine,
	// unread: a driver that is done with each frame at once leaves the fragment to the
	// next, which is at the same offset then.
	hold int
}

var (
	// Heads that begin 8 bytes before a page's end, for one frame in 64.
	shortHeads = frames{count: 2400, pull: 56, min: 100, max: 1200}
	// Heads that cross a page, for one frame in three.
	wholeFrames = frames{count: 300, min: 1300, max: 1400}
	heldFrames  = frames{count: 300, min: 1300, max: 1400, hold: 5}
)

// openTap is the device while it is there.
var openTap struct {
	*frames
	file *os.File
	mac  net.HardwareAddr
}

// tap makes the device, until undone.
func tap(f frames) func(t *testing.T) func() {
	return func(t *testing.T) func() {
		t.Helper()
		command(t, "modprobe", "tun")
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		request, err := unix.NewIfreq(tapName)
		if err != nil {
			t.Fatal(err)
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			t.Fatal(err)
		}
		detach := func() {}
		if f.pull > 0 {
			detach = pullHead(t, f.pull)
		}
		command(t, "ip", "link", "set", tapName, "up")
		command(t, "ip", "address", "add", tapOwn+"/24", "dev", tapName)
		sysctl(t, "net.ipv4.ip_forward=1")
		device, err := net.InterfaceByName(tapName)
		if err != nil {
			t.Fatal(err)
		}
		openTap.frames, openTap.mac = &f, device.HardwareAddr
		openTap.file = os.NewFile(uintptr(fd), "tap")
		file := openTap.file
		t.Cleanup(func() { _ = file.Close() }) // if the test fails before
		return func() {
			detach()
			sysctl(t, "net.ipv4.ip_forward=0")
			_ = file.Close()
		}
	}
}

// pullHead has the device take n bytes off each frame's front.
func pullHead(t *testing.T, n int) (detach func()) {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil { // counts before 5.11
		t.Fatal(err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, int32(n)),
			asm.FnXdpAdjustHead.Call(),
			asm.Mov.Imm(asm.R0, 2), // XDP_PASS
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	device, err := net.InterfaceByName(tapName)
	if err != nil {
		t.Fatal(err)
	}
	attached, err := xdp.AttachXDP(xdp.XDPOptions{Program: program, Interface: device.Index, Flags: xdp.XDPDriverMode})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = attached.Close()
		_ = program.Close()
	}
}

// forwarded sends frames into the device, each one datagram to the row's port, and
// ordinary datagrams between them. Which of the frames lie so that they take the
// path shows afterwards.
func forwarded(t *testing.T, r *row) sent {
	// Fragments are the thread's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f := openTap
	random := rand.New(rand.NewPCG(1, uint64(r.port)))
	held, err := net.ListenPacket("udp4", fmt.Sprintf("%s:%d", tapOwn, heldPort))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	var s sent
	s.ordinary = inRounds(t, f.count/rounds, func() error {
		length := f.min + random.IntN(f.max-f.min)
		s.path++
		if f.hold > 0 && s.path%uint64(f.hold) == 0 {
			if _, err := f.file.Write(frame(f.mac, netip.AddrPortFrom(netip.MustParseAddr(tapOwn), heldPort), length)); err != nil {
				return err
			}
		}
		_, err := f.file.Write(append(make([]byte, f.pull), frame(f.mac, r.address(t), length)...))
		return err
	})
	return s
}

// frame is an Ethernet frame with a datagram.
func frame(to net.HardwareAddr, address netip.AddrPort, length int) []byte {
	out := append([]byte{}, to...)
	out = append(out, 2, 0, 0, 0, 0, 1, 8, 0)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(20+8+length))
	copy(ip[12:], net.ParseIP(tapSource).To4())
	copy(ip[16:], address.Addr().AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	udp := make([]byte, 8+length)
	binary.BigEndian.PutUint16(udp[0:], heldPort)
	binary.BigEndian.PutUint16(udp[2:], address.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+length))
	return append(append(out, ip...), udp...)
}

// checksum is the Internet checksum of a header.
func checksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
