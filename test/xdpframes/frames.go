// Package xdpframes sends frames as an XDP program does that redirects them to another
// interface: they reach ndo_xdp_xmit of its driver and no other transmit function.
package xdpframes

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

const (
	liveFrames = 1 << 1 // BPF_F_TEST_XDP_LIVE_FRAMES, since 5.18
	etherType  = 0x88b5 // for local experiments
)

// ErrUnsupported means that this kernel does not send what an XDP program redirects in a run.
var ErrUnsupported = errors.New("no runs of XDP programs with live frames (Linux 5.18)")

// Redirect sends n broadcast frames of that many bytes out of the interface with an index, in
// the network namespace of the calling thread.
func Redirect(index, n, size int) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(index)),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		return fmt.Errorf("XDP program: %w", err)
	}
	defer program.Close()
	frame := make([]byte, size)
	for i := range 6 {
		frame[i] = 0xff
	}
	frame[6] = 2 // a local source
	binary.BigEndian.PutUint16(frame[12:], etherType)
	_, err = program.Run(&ebpf.RunOptions{Data: frame, Repeat: uint32(n), Flags: liveFrames})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}
