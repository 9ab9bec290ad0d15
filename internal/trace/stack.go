package trace

import (
	"bytes"
	"os"
	"strings"
	"time"

	"xentrace/internal/kernel"
)

const (
	// modulesInterval is how often it is looked whether modules came or went, while
	// there are stacks to name.
	modulesInterval = time.Second

	// maxNamed bounds the return addresses that are remembered with their names; then
	// they are all forgotten. The same few recur.
	maxNamed = 4096

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
			address++ // of a kprobe: where the processor is, not where it will return to
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
		if len(s.named) >= maxNamed {
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
	s.functions, _ = kernel.ReadFunctions() // what is missing was told at the start
}

// loadedModules returns the names, sizes and addresses in /proc/modules, which tell
// one load from another; how often a module is used changes all the time.
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

// firstDropping returns the first frame behind those of the freeing and of BPF.
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
