package trace

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"time"

	"xentrace/bpf"
	"xentrace/internal/kernel"
	"xentrace/internal/userstack"
)

const (
	// modulesInterval is how often /proc/modules is checked for changes while there are
	// stacks to name.
	modulesInterval = time.Second

	// maxNamedAddresses bounds the cache of named return addresses, which is then cleared.
	// The same few recur.
	maxNamedAddresses = 4096

	// innerFrames is how many frames may belong to the freeing, to tracing and to BPF itself.
	innerFrames = 10
)

// freeing are functions that only free what others drop. A stack begins with the
// function that dropped the packet, whatever the hook.
var freeing = map[string]bool{
	"kfree_skb": true, "kfree_skb_list": true, "kfree_skb_reason": true, "__kfree_skb_reason": true,
	"kfree_skb_list_reason": true, "sk_skb_reason_drop": true, "__sk_skb_reason_drop": true,
	"__dev_kfree_skb_any": true, "dev_kfree_skb_any_reason": true,
}

// stacks names the return addresses of stacks. The kernel's functions are read when
// the first one is to be named, and again when modules have come or gone since.
type stacks struct {
	functions *kernel.Functions // nil before, and if their addresses are hidden
	read      bool
	named     map[uint64]kernel.Frame
	modules   []byte // /proc/modules when the functions were read
	looked    time.Time
}

// name returns the frames as the kernel prints them, innermost first, beginning with
// the function that dropped the packet. location is where that function freed it, if it
// is known. It returns none where addresses are hidden.
func (s *stacks) name(addresses []uint64, location uint64) []string {
	s.renew()
	if s.functions == nil {
		return nil
	}
	frames := make([]kernel.Frame, len(addresses))
	for i, address := range addresses {
		if i == 0 && location == 0 {
			address++ // of a kprobe: the instruction pointer, not a return address
		}
		frames[i] = s.frame(address)
	}
	names := make([]string, 0, len(frames))
	for _, frame := range frames[firstDropping(frames, addresses, location):] {
		names = append(names, frame.String())
	}
	return names
}

func (s *stacks) frame(address uint64) kernel.Frame {
	frame, known := s.named[address]
	if !known {
		if len(s.named) >= maxNamedAddresses {
			clear(s.named)
		}
		frame = s.functions.Frame(address)
		s.named[address] = frame
	}
	return frame
}

// renew reads the kernel's functions if that was not done, or if modules have come
// or gone since.
func (s *stacks) renew() {
	if s.read && time.Since(s.looked) < modulesInterval {
		return
	}
	s.looked = time.Now()
	modules := loadedModules()
	if s.read && bytes.Equal(modules, s.modules) {
		return
	}
	s.read, s.modules = true, modules
	s.named = make(map[uint64]kernel.Frame)
	s.functions, _ = kernel.ReadFunctions() // what is missing was reported at the start
}

// loadedModules returns the names, sizes and addresses in /proc/modules, which
// distinguish one load from another. The use counts change all the time and are left out.
func loadedModules() []byte {
	text, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil // a kernel without modules
	}
	var loaded []byte
	for line := range bytes.Lines(text) {
		for i, field := range bytes.Fields(line) {
			if i == 0 || i == 1 || i == 5 {
				loaded = append(append(loaded, field...), ' ')
			}
		}
	}
	return loaded
}

// firstDropping returns the first frame after those of the freeing and of BPF.
func firstDropping(frames []kernel.Frame, addresses []uint64, location uint64) int {
	inner := min(innerFrames, len(frames))
	for i := inner - 1; i >= 0; i-- {
		if freeing[frames[i].Function] {
			return i + 1
		}
	}
	for i := range inner {
		if addresses[i] == location {
			return i
		}
	}
	first := 0
	for i, frame := range frames[:inner] {
		if frame.Module == "bpf" || strings.HasPrefix(frame.Function, "__traceiter_") || strings.HasPrefix(frame.Function, "bpf_") || strings.HasPrefix(frame.Function, "__bpf_") {
			first = i + 1
		}
	}
	return first
}

const (
	// maxRecentCalls and recentCallsAge bound the cache of named calls: a program sends
	// from few call sites.
	maxRecentCalls = 256
	recentCallsAge = time.Second
)

type calls struct {
	stacks *stacks
	namer  *userstack.Namer
	recent map[userCall][]string
	since  time.Time
}

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

// kernelFrames names the kernel's frames, and reports whether they are those of the call
// that sent the packet: a task that runs the qdisc also sends packets of others.
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
	own := record.packet.Sender.Tgid == call.Tgid || !slices.ContainsFunc(frames, runsQdisc)
	return frames, own && fromCall(frames)
}

func runsQdisc(f kernel.Frame) bool { return f.Function == "__qdisc_run" }

func (c *calls) userFrames(record *recordDecoder) []string {
	call := &record.call
	if call.NrUser == 0 {
		return nil
	}
	key := userCall{tgid: call.Tgid, frames: call.NrUser}
	copy(key.stack[:], call.User[:call.NrUser])
	if time.Since(c.since) > recentCallsAge || len(c.recent) >= maxRecentCalls {
		clear(c.recent)
		c.since = time.Now()
	}
	names, known := c.recent[key]
	if !known {
		names = c.namer.Name(record.userCall())
		c.recent[key] = names
	}
	return slices.Clone(names)
}

// userCall is the program's part of the stack. Its work counts to the user of the socket,
// which a process cannot change as it can its own.
func (d *recordDecoder) userCall() *userstack.Call {
	call := &userstack.Call{
		PID: int(d.call.Tgid), UID: d.packet.Socket.Uid, At: d.packet.TimeNs, Addresses: d.call.User[:d.call.NrUser],
	}
	if d.packet.Sender.Tgid == d.call.Tgid {
		call.Started = time.Duration(d.packet.Sender.Started)
	}
	return call
}

// interrupting are functions whose work is unrelated to the call below them: softirqs,
// which send most packets of a busy connection, and busy polling.
var interrupting = map[string]bool{
	"__do_softirq": true, "handle_softirqs": true, "do_softirq": true, "run_ksoftirqd": true,
	"net_tx_action": true, "net_rx_action": true, "__napi_poll": true,
	"napi_busy_loop": true, "__napi_busy_loop": true,
}

// entries are functions by which system calls enter the kernel.
var entries = []string{"do_syscall_64", "x64_sys_call", "entry_SYSCALL", "do_fast_syscall_32", "__do_fast_syscall_32",
	"__x64_sys_", "__ia32_sys_", "el0_svc", "do_el0_svc", "invoke_syscall", "__arm64_sys_", "io_wq_worker"}

// fromCall reports whether a stack leads to a system call with nothing unrelated on top. A
// truncated stack does not.
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
