package trace

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/test/need"
)

// inodeOf returns the inode of a socket of this process.
func inodeOf(t testing.TB, conn syscall.Conn) uint64 {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var stat syscall.Stat_t
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Fstat(int(fd), &stat) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return stat.Ino
}

func finder(t testing.TB) *holderFinder {
	t.Helper()
	need.Root(t, "to load BPF programs")
	f := newHolderFinder(kernel.NewTypes())
	if f.refused != nil {
		t.Fatal(f.refused)
	}
	t.Cleanup(func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func udpSocket(t testing.TB) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestHoldersOfSockets(t *testing.T) {
	f := finder(t)
	one, two := udpSocket(t), udpSocket(t)
	twice, err := two.File() // a second file descriptor for the same socket
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = twice.Close() }()
	holders, err := f.find([]uint64{inodeOf(t, one), inodeOf(t, two), 1})
	if err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[uint64]int)
	for _, h := range holders {
		found[h.Inode]++
		if h.PID != os.Getpid() || h.Comm+"\n" != string(comm) || h.Started <= 0 || h.Started > time.Hour*24*3650 {
			t.Errorf("holder %+v, want this process, %s", h, comm)
		}
	}
	if found[inodeOf(t, one)] != 1 || found[inodeOf(t, two)] != 2 || len(found) != 2 {
		t.Errorf("%v, want one file for %d, two for %d", found, inodeOf(t, one), inodeOf(t, two))
	}
	// What was asked for before is forgotten.
	if holders, err := f.find([]uint64{1}); err != nil || len(holders) != 0 {
		t.Errorf("%v, %v: want nobody", holders, err)
	}
	inode := inodeOf(t, one)
	_ = one.Close()
	if holders, err := f.find([]uint64{inode}); err != nil || len(holders) != 0 {
		t.Errorf("%v, %v: want nobody, the socket is closed", holders, err)
	}
}

func TestHoldersAreDecoded(t *testing.T) {
	if _, err := decodeHolders(make([]byte, 47)); err == nil {
		t.Error("a part of a holder is taken, want an error")
	}
	if holders, err := decodeHolders(nil); err != nil || len(holders) != 0 {
		t.Errorf("%v, %v, want none", holders, err)
	}
}

// How long it takes to find the holder of one socket among the processes of this machine
// and as many more files as are named.
func BenchmarkHolders(b *testing.B) {
	for _, files := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("%d more files", files), func(b *testing.B) {
			f := finder(b)
			for range files {
				file, err := os.Open("/dev/null")
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = file.Close() }()
			}
			inode := inodeOf(b, udpSocket(b))
			b.ResetTimer()
			for range b.N {
				if holders, err := f.find([]uint64{inode}); err != nil || len(holders) != 1 {
					b.Fatal(holders, err)
				}
			}
		})
	}
}

// Where the iterator cannot be had, owners are searched for in /proc: callers are told, and
// the privilege for that is kept.
func TestHoldersWithoutIterator(t *testing.T) {
	refused := &holderFinder{refused: errors.New("no iterators here")}
	tracer := &Tracer{holders: refused}
	if _, err := tracer.Holders([]uint64{1}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, want it unsupported", err)
	}
	if got := refused.privileges(); len(got) != 1 || got[0] != unix.CAP_SYS_PTRACE {
		t.Errorf("privileges %v, want CAP_SYS_PTRACE", got)
	}
	if err := refused.close(); err != nil {
		t.Error(err)
	}
	tracer.holders = nil // no records are made
	if _, err := tracer.Holders([]uint64{1}); !errors.Is(err, errors.ErrUnsupported) || len(tracer.holders.privileges()) != 0 || tracer.holders.close() != nil {
		t.Errorf("%v without records, want it unsupported", err)
	}
}

// PIDs of the BPF programs mean something else in a PID namespace: nobody is named then.
func TestSenderIsDecoded(t *testing.T) {
	raw := make([]byte, unsafe.Sizeof(bpf.XentracePacketEvent{}))
	record := (*bpf.XentracePacketEvent)(unsafe.Pointer(&raw[0]))
	record.Sender = bpf.XentraceSender{Started: 7, Cgroup: 9, Tgid: 42}
	copy(record.Sender.Comm[:], "nginx")
	d := recordDecoder{wallTime: func(uint64) time.Time { return time.Time{} }}
	p, err := d.decodePacket(raw)
	if want := (event.Task{PID: 42, Comm: "nginx", Started: 7, Cgroup: 9}); err != nil || p.Sender == nil || *p.Sender != want {
		t.Errorf("sender %+v, %v, want %+v", p.Sender, err, want)
	}
	d.foreignPIDs = true
	if p, err := d.decodePacket(raw); err != nil || p.Sender != nil {
		t.Errorf("sender %+v, %v, want none", p.Sender, err)
	}
	d.foreignPIDs, record.Sender.Tgid = false, 0
	if p, err := d.decodePacket(raw); err != nil || p.Sender != nil {
		t.Errorf("sender %+v, %v, want none", p.Sender, err)
	}
}
