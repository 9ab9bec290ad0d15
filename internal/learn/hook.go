package learn

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// skbBytes is how much of an sk_buff is copied when it is handed to a driver: afterwards it may
// change. It has 232 to 256 bytes in the kernels from 4.18 to 7.2.
const skbBytes = 256

// sighting is what the hook saw last of this process's packets.
type sighting struct {
	Wanted             uint64 // the device whose packets are noted; 0 for those of all
	Beside             uint64 // an address whose memory is copied, too; 0 for none
	Count, Skb, Device uint64
	CPU                uint64
	Image              [skbBytes]byte
	Copy               [besideBytes]byte // of what lies at Beside
}

// hook notes this process's packets as they are handed to a driver, and its threads.
type hook struct {
	last     *ebpf.Map // the sighting
	programs []*ebpf.Program
	link     link.Link
}

const (
	atWanted, atBeside, atCount, atSkb, atDevice, atCPU, atImage = 0, 8, 16, 24, 32, 40, 48

	atCopy        = atImage + skbBytes
	besideBytes   = 512
	sightingBytes = atCopy + besideBytes
)

func newHook() (*hook, error) {
	last, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: sightingBytes, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	h := &hook{last: last}
	task, err := h.load(h.noteTask())
	if err == nil {
		var process uint64
		if process, err = h.process(task); err == nil {
			err = h.attach(uint32(process >> 32))
		}
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *hook) load(instructions asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "Dual BSD/GPL", Instructions: instructions})
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	h.programs = append(h.programs, p)
	return p, nil
}

// entry loads the address of the map's only entry into R7, and leaves the program without it.
func (h *hook) entry() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, h.last.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Reg(asm.R7, asm.R0),
	}
}

var end = asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return()}

// noteTask notes the running thread: its task_struct as the packet, its number as the device.
func (h *hook) noteTask() asm.Instructions {
	return append(append(h.entry(),
		asm.FnGetCurrentTask.Call(),
		asm.StoreMem(asm.R7, atSkb, asm.R0, asm.DWord),
		asm.FnGetCurrentPidTgid.Call(),
		asm.StoreMem(asm.R7, atDevice, asm.R0, asm.DWord),
	), end...)
}

// notePacket notes the packets of a process. net_dev_start_xmit has them since 3.13.
func (h *hook) notePacket(tgid uint32) asm.Instructions {
	return append(append(h.entry(),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.JNE.Imm(asm.R0, int32(tgid), "end"),
		asm.LoadMem(asm.R1, asm.R6, 8, asm.DWord),
		asm.LoadMem(asm.R2, asm.R7, atWanted, asm.DWord),
		asm.JEq.Imm(asm.R2, 0, "note"),
		asm.JNE.Reg(asm.R1, asm.R2, "end"),
		asm.LoadMem(asm.R3, asm.R6, 0, asm.DWord).WithSymbol("note"),
		asm.StoreMem(asm.R7, atSkb, asm.R3, asm.DWord),
		asm.StoreMem(asm.R7, atDevice, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, atCount, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R7, atCount, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, atImage),
		asm.Mov.Imm(asm.R2, skbBytes),
		asm.FnProbeReadKernel.Call(),
		asm.FnGetSmpProcessorId.Call(),
		asm.StoreMem(asm.R7, atCPU, asm.R0, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, atCopy),
		asm.Mov.Imm(asm.R2, besideBytes),
		asm.LoadMem(asm.R3, asm.R7, atBeside, asm.DWord),
		asm.FnProbeReadKernel.Call(),
	), end...)
}

func (h *hook) attach(tgid uint32) error {
	p, err := h.load(h.notePacket(tgid))
	if err != nil {
		return err
	}
	if h.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "net_dev_start_xmit", Program: p}); err != nil {
		return fmt.Errorf("tracepoint net_dev_start_xmit: %w", err)
	}
	return nil
}

// process returns the number of this process (high half) and thread as the kernel has them.
func (h *hook) process(task *ebpf.Program) (uint64, error) {
	if _, err := task.Run(&ebpf.RunOptions{Context: [1]uint64{}}); err != nil {
		return 0, fmt.Errorf("program: %w", err)
	}
	s, err := h.sighting()
	return s.Device, err
}

// task returns the address of the calling thread's task_struct, and its numbers.
func (h *hook) task() (address, numbers uint64, err error) {
	if _, err := h.programs[0].Run(&ebpf.RunOptions{Context: [1]uint64{}}); err != nil {
		return 0, 0, fmt.Errorf("program: %w", err)
	}
	s, err := h.sighting()
	return s.Skb, s.Device, err
}

// want has only packets of one device noted, or of all for 0.
func (h *hook) want(device uint64) error { return h.wantBeside(device, 0) }

// wantBeside has memory copied with them as well, as it is while the packet is handed over.
func (h *hook) wantBeside(device, address uint64) error {
	if err := h.last.Put(uint32(0), sighting{Wanted: device, Beside: address}); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	return nil
}

func (h *hook) sighting() (s sighting, err error) {
	if err := h.last.Lookup(uint32(0), &s); err != nil {
		return s, fmt.Errorf("map: %w", err)
	}
	return s, nil
}

func (h *hook) close() error {
	var err error
	if h.link != nil {
		err = h.link.Close()
	}
	for _, p := range h.programs {
		err = errors.Join(err, p.Close())
	}
	return errors.Join(err, h.last.Close())
}
