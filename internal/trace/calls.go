package trace

import (
	"slices"
	"strings"
	"time"

	"xentrace/bpf"
	"xentrace/internal/kernel"
	"xentrace/internal/userstack"
)

const (
	// recentCalls is how many calls are remembered with their names, and for how
	// long: a program sends from the same few places again and again.
	recentCalls  = 256
	recentlyLast = time.Second
)

// calls names the stacks of the calls that sent packets.
type calls struct {
	stacks *stacks
	namer  *userstack.Namer
	recent map[userCall][]string
	since  time.Time
}

// A userCall is the user side of a call.
type userCall struct {
	tgid   uint32
	frames uint16
	stack  [len(bpf.XentraceCallStack{}.User)]uint64
}

func newCalls(s *stacks) *calls {
	return &calls{stacks: s, namer: userstack.New(), recent: make(map[userCall][]string)}
}

// name returns the frames of the kernel and then those of the program, innermost first;
// none if the packet of the record was not sent by a call.
func (c *calls) name(record *recordDecoder) []string {
	frames, byCall := c.kernelFrames(record)
	if !byCall {
		return nil
	}
	call := &record.call
	addresses := call.Kernel[:call.NrKernel]
	names := make([]string, 0, len(frames)+int(call.NrUser))
	for _, frame := range frames[firstDropping(frames, addresses, 0):] {
		names = append(names, frame.String())
	}
	return append(names, c.userFrames(record)...)
}

// user returns the program's frames only.
func (c *calls) user(record *recordDecoder) []string {
	if _, byCall := c.kernelFrames(record); !byCall {
		return nil
	}
	return c.userFrames(record)
}

// kernelFrames names the kernel's frames, and tells if they are those of the call that
// sent the packet: who empties the interface's queue may also send what others put there.
func (c *calls) kernelFrames(record *recordDecoder) (frames []kernel.Frame, byCall bool) {
	call := &record.call
	if call.NrKernel == 0 {
		return nil, false
	}
	c.stacks.renew()
	if c.stacks.functions == nil {
		return nil, false
	}
	for _, address := range call.Kernel[:call.NrKernel] {
		frames = append(frames, c.stacks.frame(address))
	}
	own := record.packet.Sender.Tgid == call.Tgid || !slices.ContainsFunc(frames, emptiesQueue)
	return frames, own && fromCall(frames)
}

func emptiesQueue(f kernel.Frame) bool { return f.Function == "__qdisc_run" }

func (c *calls) userFrames(record *recordDecoder) []string {
	call := &record.call
	if call.NrUser == 0 {
		return nil
	}
	key := userCall{tgid: call.Tgid, frames: call.NrUser}
	copy(key.stack[:], call.User[:call.NrUser])
	if time.Since(c.since) > recentlyLast || len(c.recent) >= recentCalls {
		clear(c.recent)
		c.since = time.Now()
	}
	names, known := c.recent[key]
	if !known {
		names = c.namer.Name(int(call.Tgid), record.packet.TimeNs, call.User[:call.NrUser])
		c.recent[key] = names
	}
	return slices.Clone(names)
}

// interrupting are functions that do work which has nothing to do with the call that is
// below them: softirqs, which most packets of a busy connection are sent in, and what
// polls the receiving side.
var interrupting = map[string]bool{
	"__do_softirq": true, "handle_softirqs": true, "do_softirq": true, "run_ksoftirqd": true,
	"net_tx_action": true, "net_rx_action": true, "__napi_poll": true,
	"napi_busy_loop": true, "__napi_busy_loop": true,
}

// entries are functions that a call of a program enters the kernel by.
var entries = []string{"do_syscall_64", "x64_sys_call", "entry_SYSCALL", "do_fast_syscall_32", "__do_fast_syscall_32",
	"__x64_sys_", "__ia32_sys_", "el0_svc", "do_el0_svc", "invoke_syscall", "__arm64_sys_", "io_wq_worker"}

// fromCall tells whether a stack leads to a call of a program, with nothing on top of it
// that it did not ask for. A stack that is cut off before does not show it.
func fromCall(frames []kernel.Frame) bool {
	called := false
	for _, frame := range frames {
		if interrupting[frame.Function] {
			return false
		}
		called = called || slices.ContainsFunc(entries, func(entry string) bool { return strings.HasPrefix(frame.Function, entry) })
	}
	return called
}
