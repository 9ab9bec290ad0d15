package trace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/test/need"
	"xentrace/test/role"
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
	if err := f.loaded(); err != nil {
		t.Fatal(err)
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
	holders, err := f.find(event.Wanted{Inodes: []uint64{inodeOf(t, one), inodeOf(t, two), 1}})
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
	if found[inodeOf(t, one)] != 1 || found[inodeOf(t, two)] != 1 || len(found) != 2 {
		t.Errorf("%v, want this process once for %d and for %d", found, inodeOf(t, one), inodeOf(t, two))
	}
	// What was asked for before is forgotten.
	if holders, err := f.find(event.Wanted{Inodes: []uint64{1}}); err != nil || len(holders) != 0 {
		t.Errorf("%v, %v: want nobody", holders, err)
	}
	inode := inodeOf(t, one)
	_ = one.Close()
	if holders, err := f.find(event.Wanted{Inodes: []uint64{inode}}); err != nil || len(holders) != 0 {
		t.Errorf("%v, %v: want nobody, the socket is closed", holders, err)
	}
}

// A process with very many descriptors of one socket costs no more than one with one.
func TestHolderOfManyDescriptors(t *testing.T) {
	f := finder(t)
	const copies = 100_000
	inode := holdSocket(t, copies)
	if _, err := f.find(event.Wanted{Inodes: []uint64{1}}); err != nil { // the first allocates what all share
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	holders, err := f.find(event.Wanted{Inodes: []uint64{inode}})
	runtime.ReadMemStats(&after)
	if err != nil || len(holders) != 2 {
		t.Fatalf("%d holders, %v: want this process and the one with %d files", len(holders), err, copies)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<10 {
		t.Errorf("%d bytes allocated, want at most 64 KiB", allocated)
	}
}

// Of a socket that very many processes hold some are reported, with the oldest.
func TestHoldersAreBounded(t *testing.T) {
	f := finder(t)
	socket := udpSocket(t)
	file, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for range 40 {
		startHolder(t, exec.Command("cat"), file)
	}
	holders, err := f.find(event.Wanted{Inodes: []uint64{inodeOf(t, socket)}})
	if err != nil || len(holders) < 16 || len(holders) > 32 {
		t.Fatalf("%d holders, %v: want 16 to 32", len(holders), err)
	}
	own := slices.ContainsFunc(holders, func(h event.Holder) bool { return h.PID == os.Getpid() })
	if !own {
		t.Errorf("%+v: want this process among them, which was started first", holders)
	}
}

// startHolder starts a process that holds the file as its descriptor 3, and ends with the test.
func startHolder(t *testing.T, command *exec.Cmd, file *os.File) {
	t.Helper()
	command.ExtraFiles = []*os.File{file}
	if _, err := command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
}

// holdCopies is the process of [holdSocket]: it makes so many copies of descriptor 3.
func holdCopies(args []string) error {
	copies, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: uint64(copies) + 100, Max: uint64(copies) + 100}
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) // where it is refused, fewer copies
	made := 0
	for ; made < copies; made++ {
		if _, err := unix.Dup(3); errors.Is(err, unix.EMFILE) {
			break
		} else if err != nil {
			return err
		}
	}
	if made < 900 {
		return fmt.Errorf("%d copies, want at least 900", made)
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// holdSocket has another process hold a socket of this one by so many descriptors.
func holdSocket(t *testing.T, copies int) (inode uint64) {
	t.Helper()
	socket := udpSocket(t)
	file, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	command := role.Command("holder", strconv.Itoa(copies))
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	startHolder(t, command, file)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the process that holds the socket printed %q, %v", line, err)
	}
	return inodeOf(t, socket)
}

func TestHoldersAreDecoded(t *testing.T) {
	if _, err := readHolders(bytes.NewReader(make([]byte, holderSize-1))); err == nil {
		t.Error("a part of a holder is accepted, want an error")
	}
	one := bpf.XentraceHolder{Inode: 7, Process: bpf.XentraceSender{Tgid: 9}}
	raw := bytes.Repeat(unsafe.Slice((*byte)(unsafe.Pointer(&one)), holderSize), 1000)
	for name, reader := range map[string]io.Reader{
		"whole": bytes.NewReader(raw), "byte by byte": iotest.OneByteReader(bytes.NewReader(raw)),
	} {
		holders, err := readHolders(reader)
		if err != nil || len(holders) != 1000 || holders[999].Inode != 7 || holders[999].PID != 9 {
			t.Errorf("%s: %d holders, %v: want 1000", name, len(holders), err)
		}
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
				if holders, err := f.find(event.Wanted{Inodes: []uint64{inode}}); err != nil || len(holders) != 1 {
					b.Fatal(holders, err)
				}
			}
		})
	}
}

// Where the iterator cannot be had, owners are searched for in /proc: callers get an error, and
// the privilege for that is kept.
func TestHoldersWithoutIterator(t *testing.T) {
	refused := &holderFinder{refused: errors.New("no iterators here")}
	tracer := &Tracer{holders: refused}
	if _, err := tracer.Holders(event.Wanted{Inodes: []uint64{1}}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, want it unsupported", err)
	}
	if got := refused.privileges(); !slices.Equal(got, []kernel.Capability{unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH}) {
		t.Errorf("privileges %v, want CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH", got)
	}
	if err := refused.close(); err != nil {
		t.Error(err)
	}
	tracer.holders = nil // no records are made
	if _, err := tracer.Holders(event.Wanted{Inodes: []uint64{1}}); !errors.Is(err, errors.ErrUnsupported) || len(tracer.holders.privileges()) != 0 || tracer.holders.close() != nil {
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

// A connected socket is found by its addresses, in whichever network namespace, as they are in
// its packets.
func TestHoldersByAddresses(t *testing.T) {
	f := finder(t)
	for _, test := range []struct{ name, network, listen string }{
		{"IPv4", "tcp4", "127.0.0.1:0"},
		{"IPv6", "tcp6", "[::1]:0"},
		{"IPv4 of an IPv6 socket", "tcp", "127.0.0.1:0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", test.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = listener.Close() }()
			to := listener.Addr().(*net.TCPAddr).AddrPort()
			if test.network == "tcp" {
				to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
			}
			socket, err := unix.Socket(familyOf(to.Addr()), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			file := os.NewFile(uintptr(socket), "socket")
			defer func() { _ = file.Close() }()
			if err := unix.Connect(socket, sockaddr(to)); err != nil {
				t.Fatal(err)
			}
			key := event.FlowKey{Proto: unix.IPPROTO_TCP, Source: localOf(t, socket), Destination: netip.AddrPortFrom(to.Addr().Unmap(), to.Port())}
			other := key
			other.Source = netip.AddrPortFrom(key.Source.Addr(), key.Source.Port()^1)
			holders, err := f.find(event.Wanted{Flows: []event.FlowKey{other, key}})
			if err != nil || len(holders) != 1 || holders[0].PID != os.Getpid() || holders[0].Flow != key || int(holders[0].UID) != os.Getuid() {
				t.Fatalf("%+v, %v: want this process once, by %+v", holders, err, key)
			}
			inode := holders[0].Inode
			// Asked for both ways it is found once.
			holders, err = f.find(event.Wanted{Inodes: []uint64{inode}, Flows: []event.FlowKey{key}})
			if err != nil || len(holders) != 1 || holders[0].Inode != inode || holders[0].Flow != key {
				t.Errorf("%+v, %v: want inode %d by %+v", holders, err, inode, key)
			}
			if holders, err := f.find(event.Wanted{Inodes: []uint64{inode}}); err != nil || len(holders) != 1 || holders[0].Flow != (event.FlowKey{}) {
				t.Errorf("%+v, %v: want inode %d, and no addresses", holders, err, inode)
			}
		})
	}
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func localOf(t *testing.T, socket int) netip.AddrPort {
	t.Helper()
	name, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	if four, is := name.(*unix.SockaddrInet4); is {
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), uint16(four.Port))
	}
	six := name.(*unix.SockaddrInet6)
	return netip.AddrPortFrom(netip.AddrFrom16(six.Addr).Unmap(), uint16(six.Port))
}
