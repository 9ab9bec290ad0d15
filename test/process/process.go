// Package process has processes of other names and users send what tests look for the
// owner of. A test's binary is such a process, too, if its TestMain calls Main.
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
)

// role is the variable that makes a test's binary such a process.
const role = "XENTRACE_TEST_PROCESS"

// Main is the whole of the process, if this is one; else it returns.
func Main() {
	kind := os.Getenv(role)
	if kind == "" {
		return
	}
	if err := run(kind, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, kind, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run does what a kind of process does with its arguments.
func run(kind string, args []string) error {
	switch kind {
	case "datagrams":
		_, err := datagrams(args[0], args[1])
		return err
	case "threads":
		return threads(args[0], args[1])
	case "segment":
		return segment(args[0])
	case "stream":
		return stream(args[0], args[1])
	case "server":
		return server(args[0], args[1])
	case "child":
		return child(args[0])
	case "busy":
		return busy(args[0])
	}
	return hostile(kind, args)
}

// datagrams sends so many of too many slots, shows from where, and is gone.
func datagrams(remote, count string) (*rocket.UDP, error) {
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	sender, err := rocket.NewUDP(context.Background(), netip.MustParseAddrPort(remote), rocket.Options{})
	if err != nil {
		return nil, err
	}
	for range n {
		sent, err := sender.Send(context.Background())
		if err != nil {
			return nil, err
		}
		fmt.Println(sent.Local.Port())
	}
	return sender, nil // without closing anything
}

// threads has each of so many threads, which call themselves otherwise, send a datagram.
func threads(remote, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var senders []*rocket.UDP
	for range n {
		done := make(chan worked)
		go worker(done, remote)
		w := <-done
		if w.err != nil {
			return w.err
		}
		senders = append(senders, w.sender)
	}
	defer runtime.KeepAlive(senders)
	return wait()
}

// worked is what a worker leaves: a socket, which has to stay.
type worked struct {
	sender *rocket.UDP
	err    error
}

// worker sends from a thread that is not the first.
func worker(done chan<- worked, remote string) {
	runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
	if unix.Gettid() == unix.Getpid() {
		go worker(done, remote)
		select {} // keeps the first thread
	}
	name := append([]byte("worker"), 0)
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0); err != nil {
		done <- worked{err: err}
		return
	}
	sender, err := datagrams(remote, "1")
	done <- worked{sender, err}
}

// segment sends one of too many slots, shows from where, and keeps its connection.
func segment(remote string) error {
	sender, err := rocket.NewTCP(context.Background(), netip.MustParseAddrPort(remote), rocket.Options{})
	if err != nil {
		return err
	}
	if err := sender.Stream().SetLinger(0); err != nil {
		return err
	}
	for {
		sent, err := sender.Send(context.Background())
		if err != nil {
			return err
		}
		if !sent.Split {
			fmt.Println(sent.Local.Port())
			break
		}
	}
	defer runtime.KeepAlive(sender)
	return wait()
}

// stream writes so many bytes to a connection, and keeps it.
func stream(remote, bytes string) error {
	conn, err := net.Dial("tcp", remote)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := enlarge(conn.(*net.TCPConn)); err != nil {
		return err
	}
	fmt.Println(conn.LocalAddr().(*net.TCPAddr).Port)
	if err := write(conn, bytes); err != nil {
		return err
	}
	return wait()
}

// enlarge makes the send buffer large, so that the kernel sends most by itself.
func enlarge(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20)
	})
	return errors.Join(err, set)
}

func write(w io.Writer, bytes string) error {
	n, err := strconv.Atoi(bytes)
	if err != nil {
		return err
	}
	_, err = w.Write(make([]byte, n))
	return err
}

// server accepts a connection, has a child write to it, and keeps it, too.
func server(at, bytes string) error {
	listener, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	name := filepath.Join(filepath.Dir(os.Args[0]), "serving-child")
	cmd := exec.Command(name, bytes)
	cmd.Env = append(os.Environ(), role+"=child")
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	if err := wait(); err != nil {
		return err
	}
	runtime.KeepAlive(file)
	return errors.Join(stdin.Close(), cmd.Wait(), conn.Close())
}

// child writes to the connection that it got from the server, again and again.
func child(bytes string) error {
	const socket = 3
	file := os.NewFile(socket, "connection")
	for range 4 {
		if err := write(file, bytes); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return wait()
}

// busy keeps one CPU busy, until it is killed or a minute is over.
func busy(cpu string) error {
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(n)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	fmt.Println("busy")
	for began := time.Now(); time.Since(began) < time.Minute; {
	}
	return nil
}

// wait returns when the test closes standard input.
func wait() error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// A Process is one that runs.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
}

// Start starts one that calls itself name, as a user; it inherits the network namespace of
// the calling thread, and is killed at the end of the test.
func Start(t testing.TB, name string, uid uint32, kind string, args ...string) *Process {
	t.Helper()
	directory := install(t, name, "serving-child")
	p := &Process{t: t, cmd: exec.Command(filepath.Join(directory, name), args...)}
	p.cmd.Env = append(os.Environ(), role+"="+kind)
	p.cmd.Stderr = os.Stderr
	if uid != 0 {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, p.stdout = stdin, bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	return p
}

// install puts this binary under other names where every user can run it.
func install(t testing.TB, names ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	directory, err := os.MkdirTemp("", "xentrace-process-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(directory, names[0])
	if err := copyFile(first, self); err != nil {
		t.Fatal(err)
	}
	for _, name := range names[1:] {
		if err := os.Link(first, filepath.Join(directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// PID returns the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Line returns the next line that it wrote.
func (p *Process) Line() string {
	p.t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%s: no line: %v", p.cmd.Path, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// Number returns the next line, which is a number.
func (p *Process) Number() int {
	p.t.Helper()
	n, err := strconv.Atoi(p.Line())
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// Wait waits until it has ended by itself, having written everything.
func (p *Process) Wait() {
	p.t.Helper()
	if _, err := io.Copy(io.Discard, p.stdout); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("%s: %v", p.cmd.Path, err)
	}
}

// End has one that waits go on to its end.
func (p *Process) End() {
	p.t.Helper()
	if err := p.stdin.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.Wait()
}

// Count has one that counts end its counting, and returns the number.
func (p *Process) Count() int {
	p.t.Helper()
	if err := p.stdin.Close(); err != nil {
		p.t.Fatal(err)
	}
	return p.Number()
}

// Kill kills it and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
