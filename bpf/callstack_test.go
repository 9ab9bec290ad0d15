package bpf

import (
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// pin keeps the test's goroutine on the CPU that the programs run on, so that
// they run in its own call.
func pin(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	only.Set(0)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if unix.SchedSetaffinity(0, &before) == nil {
			runtime.UnlockOSThread()
		}
	})
}

// ring returns the records that were sent.
func (p *programs) ring() [][]byte {
	p.t.Helper()
	reader, err := ringbuf.NewReader(p.collection.Maps[XentraceMapEvents])
	if err != nil {
		p.t.Fatal(err)
	}
	defer reader.Close()
	var all [][]byte
	for {
		reader.SetDeadline(time.Now().Add(-time.Second))
		record, err := reader.Read()
		if err != nil {
			return all
		}
		all = append(all, record.RawSample)
	}
}

// With stacks asked for, the record of a packet that went wrong has that of the call
// behind the room for all fragments; without, it ends behind the last fragment.
func TestStackBehindRecord(t *testing.T) {
	for _, test := range []struct {
		name   string
		stacks uint8
		want   int
	}{
		{"asked for", 1, int(unsafe.Sizeof(XentracePacketEvent{}) + unsafe.Sizeof(XentraceCallStack{}))},
		{"not asked for", 0, int(unsafe.Offsetof(XentracePacketEvent{}.Frags)) + 17*8},
	} {
		t.Run(test.name, func(t *testing.T) {
			pin(t)
			a := newArena(t)
			p := loadPrograms(t, a, XentraceConfiguration{
				PageSize: 4096, DriverHooks: 1, Records: 1, Stacks: test.stacks, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1})
			a.device()
			s := &stage{p: p, a: a, frags: rocket, offset: 256}
			s.begin()
			p.free(atSkb)
			p.end(atSkb)
			records := p.ring()
			if len(records) != 1 {
				t.Fatalf("%d records, want 1", len(records))
			}
			if len(records[0]) != test.want {
				t.Fatalf("a record of %d bytes, want %d", len(records[0]), test.want)
			}
			if test.stacks != 0 {
				checkStack(t, records[0][unsafe.Sizeof(XentracePacketEvent{}):])
			}
		})
	}
}

func checkStack(t *testing.T, raw []byte) {
	t.Helper()
	stack := *(*XentraceCallStack)(unsafe.Pointer(&raw[0]))
	if stack.Tgid != uint32(os.Getpid()) {
		t.Errorf("process is %d, want %d", stack.Tgid, os.Getpid())
	}
	if stack.NrKernel < 2 || int(stack.NrKernel) > len(stack.Kernel) || stack.NrUser < 2 || int(stack.NrUser) > len(stack.User) {
		t.Fatalf("%d frames of the kernel and %d of the program", stack.NrKernel, stack.NrUser)
	}
	for _, address := range stack.Kernel[:stack.NrKernel] {
		if address < 1<<63 {
			t.Errorf("%#x is no address of the kernel's", address)
		}
	}
	// The call is a system call of Go's.
	function := runtime.FuncForPC(uintptr(stack.User[0]))
	if function == nil {
		t.Errorf("%#x is no function of this program", stack.User[0])
	} else {
		t.Logf("called from %s", function.Name())
	}
}
