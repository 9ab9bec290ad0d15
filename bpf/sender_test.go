package bpf

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Where the fake socket's struct socket and file lie.
const (
	atSocket = 0xb000
	atFile   = 0xb800
	atInode  = 0xbc00
)

// onFirstCPU keeps the test's goroutine on the CPU that programs are run on: the
// current process is this one then, not whoever an interrupt would find there.
func onFirstCPU(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var before, first unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	first.Set(0)
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
}

// fileAddress has a program tell where the kernel keeps one of this process's files.
func (a *arena) fileAddress(fd int) uint64 {
	a.t.Helper()
	published, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = published.Close() }()
	files, _ := a.offset("task_struct", "files")
	fdt, _ := a.offset("files_struct", "fdt")
	table, _ := a.offset("fdtable", "fd")
	instructions := asm.Instructions{asm.FnGetCurrentTask.Call(), asm.Mov.Reg(asm.R3, asm.R0)}
	for _, offset := range []int{files, fdt, table, fd * 8} {
		instructions = append(instructions,
			asm.Add.Imm(asm.R3, int32(offset)),
			asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, 8),
			asm.FnProbeReadKernel.Call(),
			asm.LoadMem(asm.R3, asm.RFP, -8, asm.DWord))
	}
	instructions = append(instructions, asm.LoadMapValue(asm.R1, published.FD(), 0),
		asm.StoreMem(asm.R1, 0, asm.R3, asm.DWord), asm.Mov.Imm(asm.R0, 0), asm.Return())
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: instructions})
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	if _, err := program.Run(&ebpf.RunOptions{Context: [1]uint64{}, CPU: 0, Flags: 1}); err != nil {
		a.t.Fatal(err)
	}
	var address uint64
	if err := published.Lookup(uint32(0), &address); err != nil {
		a.t.Fatal(err)
	}
	return address
}

// openAt opens a file that is this process's number fd.
func openAt(t *testing.T, fd int) {
	t.Helper()
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup3(int(file.Fd()), fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	t.Cleanup(func() { _ = unix.Close(fd) })
}

// The sender is reported if the current process holds the socket's file. Where interrupts are
// not distinguished from process context, as here without the offset of preempt_count, only if nobody
// else can hold it.
func TestSenderHoldsTheFile(t *testing.T) {
	onFirstCPU(t)
	a := newArena(t)
	const first, late, shared, tooLate = 40, 700, 41, 1500
	for _, fd := range []int{first, late, shared, tooLate} {
		openAt(t, fd)
	}
	twin, err := unix.FcntlInt(shared, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(twin) }()
	r := newTracer(t, a, 0)
	for _, test := range []struct {
		name string
		file uint64
		want bool
	}{
		{"file of this process", a.fileAddress(first), true},
		{"file far behind in the table", a.fileAddress(late), true},
		{"file too far behind in the table", a.fileAddress(tooLate), false},
		{"file that somebody else may hold", a.fileAddress(shared), false},
		{"file that it does not hold", a.address + atFile, false},
		{"no file", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			onFirstCPU(t) // a goroutine of its own
			a.t, r.t = t, t
			event := r.recordOfSocket(test.file)
			if got := event.Sender.Tgid != 0; got != test.want {
				t.Fatalf("sender %+v, known: %t, want %t", event.Sender, got, test.want)
			}
			if test.want {
				checkSender(t, &event.Sender)
			}
		})
	}
}

// recordOfSocket returns the record of a packet whose socket has that file.
func (r *tracer) recordOfSocket(file uint64) *XentracePacketEvent {
	a := r.arena
	r.lay(join(ethernet(0x0800), ipv4(6, 0, 0), tcp()))
	a.socket(fakeSocket{familyIPv4, stream, protocolTCP, established}, tcpFields{})
	a.set(atSock, a.address+atSocket, "sock", "sk_socket")
	a.set(atSocket, file, "socket", "file")
	a.set(atFile, a.address+atInode, "file", "f_inode")
	a.set(atInode, 4711, "inode", "i_ino")
	return r.record()
}

func checkSender(t *testing.T, sender *XentraceSender) {
	t.Helper()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := bytes.Cut(sender.Comm[:], []byte{0})
	if int(sender.Tgid) != os.Getpid() || string(name)+"\n" != string(comm) || sender.Started == 0 {
		t.Errorf("sender %+v (%s), want this process, %d, %s", sender, name, os.Getpid(), comm)
	}
}

// A socket has an inode number only with a file: the kernel's own have none, as those that
// are not accepted yet.
func TestInodeOfSockets(t *testing.T) {
	a := newArena(t)
	r := newTracer(t, a, 0)
	if event := r.recordOfSocket(a.address + atFile); event.Socket.Inode != 4711 || event.Socket.Address != a.address+atSock {
		t.Errorf("socket %+v, want inode 4711 at %#x", event.Socket, a.address+atSock)
	}
	if event := r.recordOfSocket(0); event.Socket.Inode != 0 || event.Socket.Address != a.address+atSock {
		t.Errorf("socket %+v without a file, want no inode", event.Socket)
	}
}
