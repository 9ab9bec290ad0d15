package trace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// preemptVariable is PREEMPT_VARIABLE in bpf/sender.h.
const preemptVariable = 0x7072656d

// selectSender sets where preempt_count is. Without it the programs name only those
// senders that alone hold their socket.
func selectSender(s *bpfload.Selection, types *kernel.Types) {
	count, err := types.PreemptCount()
	if err != nil || types.Lacks(kernel.VariableAddress) || !bpfload.HasAddress(count.Variable) {
		return
	}
	s.Addresses = map[int64]btf.TypeID{preemptVariable: count.Variable}
	s.Variables[bpf.XentraceVarSenderConfig] = bpf.XentraceSenderConfiguration{PreemptKnown: 1, PreemptOffset: count.Offset}
}

func taskOf(s *bpf.XentraceSender, name string) event.Task {
	return event.Task{PID: int(s.Tgid), Comm: name, Started: time.Duration(s.Started), Cgroup: s.Cgroup}
}

const initialPIDNamespace = "pid:[4026531836]"

type holderFinder struct {
	loading sync.Once
	types   *kernel.Types // nil once it is loaded

	mu         sync.Mutex
	collection *ebpf.Collection
	iterator   *link.Iter
	refused    error // why there is none
}

// newHolderFinder loads nothing yet.
func newHolderFinder(types *kernel.Types) *holderFinder { return &holderFinder{types: types} }

// loaded loads the iterator unless it was tried before. Without it, it returns the reason.
func (f *holderFinder) loaded() error {
	f.loading.Do(func() {
		switch {
		case f.types == nil:
		case !inInitialPIDNamespace():
			f.refused = errors.New("not in the initial PID namespace")
		default:
			f.refused = f.load()
		}
		f.types = nil
	})
	return f.refused
}

func (f *holderFinder) load() error {
	var err error
	f.collection, err = loadPrograms(f.types, bpf.XentraceProgFindHolders)
	if err != nil {
		return err
	}
	f.iterator, err = link.AttachIter(link.IterOptions{Program: f.collection.Programs[bpf.XentraceProgFindHolders]})
	if err != nil {
		f.collection.Close()
		f.iterator = nil
	}
	return err
}

// privileges are those that finding holders needs alongside CAP_BPF and CAP_PERFMON:
// without the iterator /proc is searched, where only these two show the files of all.
func (f *holderFinder) privileges() []kernel.Capability {
	if f == nil || f.loaded() == nil {
		return nil
	}
	return []kernel.Capability{unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH}
}

func (f *holderFinder) close() error {
	if f == nil {
		return nil
	}
	f.loading.Do(func() {}) // it is not loaded any more
	if f.iterator == nil {
		return nil
	}
	err := f.iterator.Close()
	f.collection.Close()
	return err
}

// Holders returns processes that hold the sockets wanted, in no particular order: of each
// socket at most 32, among them the one that was started first unless it has more. A process
// may be there more than once if its threads have file tables of their own. It takes a walk
// through the files of all processes, in the kernel. The error wraps errors.ErrUnsupported
// where the kernel has no such iterator, and where PIDs mean something else to the caller
// than to the kernel, in a PID namespace.
func (t *Tracer) Holders(w event.Wanted) ([]event.Holder, error) {
	if t.holders == nil {
		return nil, fmt.Errorf("holders of sockets: %w: no records are made", errors.ErrUnsupported)
	}
	return t.holders.find(w)
}

func (f *holderFinder) find(w event.Wanted) ([]event.Holder, error) {
	if err := f.loaded(); err != nil {
		return nil, fmt.Errorf("holders of sockets: %w: %w", errors.ErrUnsupported, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	withdraw, err := f.ask(w)
	defer withdraw()
	if err != nil {
		return nil, fmt.Errorf("sockets to look for: %w", err)
	}
	visit, err := f.iterator.Open()
	if err != nil {
		return nil, fmt.Errorf("holders of sockets: %w", err)
	}
	holders, err := readHolders(visit)
	if err := errors.Join(err, visit.Close()); err != nil {
		return nil, fmt.Errorf("holders of sockets: %w", err)
	}
	return holders, nil
}

// ask has the next walk look for sockets, until withdraw.
func (f *holderFinder) ask(w event.Wanted) (withdraw func(), err error) {
	sockets, flows := f.collection.Maps[bpf.XentraceMapWantedSockets], f.collection.Maps[bpf.XentraceMapWantedFlows]
	withdraw = func() {
		for _, inode := range w.Inodes {
			_ = sockets.Delete(inode) // it may not have come to be there
		}
		for _, flow := range w.Flows {
			_ = flows.Delete(encodeFlow(flow))
		}
	}
	for _, inode := range w.Inodes {
		err = errors.Join(err, sockets.Put(inode, bpf.XentraceWanted{}))
	}
	for _, flow := range w.Flows {
		err = errors.Join(err, flows.Put(encodeFlow(flow), bpf.XentraceWanted{}))
	}
	return withdraw, errors.Join(err, f.collection.Variables[bpf.XentraceVarFlowsWanted].Set(uint32(len(w.Flows))))
}

// encodeFlow is a flow as the BPF programs look it up.
func encodeFlow(key event.FlowKey) bpf.XentraceFlow {
	f := bpf.XentraceFlow{Proto: key.Proto, Sport: key.Source.Port(), Dport: key.Destination.Port(), Family: 6}
	if key.Source.Addr().Is4() {
		f.Family = 4
	}
	copy(f.Saddr[:], key.Source.Addr().AsSlice())
	copy(f.Daddr[:], key.Destination.Addr().AsSlice())
	return f
}

const holderSize = int(unsafe.Sizeof(bpf.XentraceHolder{}))

// readHolders reads to the end. An iterator returns EAGAIN after a million files without
// output.
func readHolders(visit io.Reader) ([]event.Holder, error) {
	var holders []event.Holder
	buffer := make([]byte, 64*holderSize)
	have := 0
	for {
		n, err := visit.Read(buffer[have:])
		have += n
		whole := have / holderSize * holderSize
		holders = appendHolders(holders, buffer[:whole])
		have = copy(buffer, buffer[whole:have])
		switch {
		case err == nil, errors.Is(err, syscall.EAGAIN):
		case !errors.Is(err, io.EOF):
			return nil, err
		case have > 0:
			return nil, fmt.Errorf("%d bytes are left, which are no holder", have)
		default:
			return holders, nil
		}
	}
}

func appendHolders(holders []event.Holder, raw []byte) []event.Holder {
	var one bpf.XentraceHolder
	for ; len(raw) > 0; raw = raw[holderSize:] {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&one)), holderSize), raw)
		if one.Process.Tgid != 0 {
			h := event.Holder{Inode: one.Inode, Task: taskOf(&one.Process, cString(one.Process.Comm[:]))}
			if f := decodeFlow(&event.Flow{}, &one.Flow); f != nil {
				h.UID, h.Flow = one.Uid, event.FlowKey{Proto: f.Proto, Source: f.Source, Destination: f.Destination}
			}
			holders = append(holders, h)
		}
	}
	return holders
}

// inInitialPIDNamespace reports whether PIDs mean the same to the caller as to the
// BPF programs.
func inInitialPIDNamespace() bool {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && namespace == initialPIDNamespace
}
