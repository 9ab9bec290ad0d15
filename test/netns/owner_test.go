package netns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/owner"
	"xentrace/internal/trace"
	"xentrace/test/process"
	"xentrace/test/tool"
)

// nobody is a user without privileges.
const nobody = 65534

// recordsFrom returns the records of packets from a port.
func recordsFrom(output *tool.Output, port int) []tool.Packet {
	var from []tool.Packet
	for _, p := range output.Packets {
		if p.Flow != nil && p.Flow.Sport == port {
			from = append(from, p)
		}
	}
	return from
}

// wantOwner checks that there are records, and that each names that process.
func wantOwner(t *testing.T, records []tool.Packet, least int, want tool.Process) {
	t.Helper()
	if len(records) < least {
		t.Errorf("%d records of %s, want at least %d", len(records), want.Comm, least)
	}
	for i := range records {
		got := records[i].Process
		if got == nil || got.PID != want.PID || got.Comm != want.Comm || got.UID != want.UID || got.Container != nil {
			t.Fatalf("record %d of %d: process %+v, want %+v", i, len(records), got, want)
		}
	}
}

// Several threads of processes of root and of another user, each thread with a socket and a
// name of its own.
func TestOwnerOfDatagrams(t *testing.T) {
	l := newLab(t)
	remote := l.udpSink(farAddress.Addr()).Local().String()
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json")
	type sent struct {
		port int
		tool.Process
	}
	var all []sent
	for n, uid := range []uint32{0, nobody, 0, nobody} {
		name := "threaded-" + strconv.Itoa(n)
		p := process.Start(t, name, uid, "threads", remote, "3")
		for range 3 {
			all = append(all, sent{p.Number(), tool.Process{PID: p.PID(), Comm: name, UID: uid}})
		}
	}
	output := watch.Stop()
	for _, s := range all {
		wantOwner(t, recordsFrom(&output, s.port), 1, s.Process)
	}
	if len(output.Packets) != len(all) {
		t.Errorf("%d records, want %d", len(output.Packets), len(all))
	}
}

// Processes that are gone before anybody could look for them are known where the kernel shows
// process context from interrupts; elsewhere nobody is named, or the right one.
func TestOwnerThatIsGone(t *testing.T) {
	l := newLab(t)
	remote := l.udpSink(farAddress.Addr()).Local().String()
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json")
	owners := make(map[int]tool.Process)
	for n := range 8 {
		name, uid := "short-"+strconv.Itoa(n), uint32(n%2*nobody)
		p := process.Start(t, name, uid, "datagrams", remote, "1")
		owners[p.Number()] = tool.Process{PID: p.PID(), Comm: name, UID: uid}
		p.Wait()
	}
	output := watch.Stop()
	if len(output.Packets) != len(owners) {
		t.Errorf("%d records, want %d", len(output.Packets), len(owners))
	}
	for i := range output.Packets {
		p := &output.Packets[i]
		if p.Process != nil || tellsSenders(t) {
			wantOwner(t, output.Packets[i:i+1], 1, owners[p.Flow.Sport])
		}
	}
}

// tellsSenders reports whether programs can read preempt_count on this kernel, whose variables
// have to be among its symbols for that (CONFIG_KALLSYMS_ALL).
func tellsSenders(t *testing.T) bool {
	t.Helper()
	symbols, err := os.ReadFile("/proc/kallsyms")
	must(t, err)
	return bytes.Contains(symbols, []byte(" __preempt_count\n")) || bytes.Contains(symbols, []byte(" pcpu_hot\n"))
}

// bigSegments lets a TCP connection over IPv6 hand segments to the interface that are too
// large for a Xen frontend, from ordinary writes.
func bigSegments(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", "near", "gso_max_size", "131072").CombinedOutput(); err != nil {
		t.Fatalf("large segments: %v: %s", err, out)
	}
}

const streamBytes = 64 << 20

// Most segments of a connection are sent by an interrupt that brings an acknowledgement or by a
// timer, on top of whatever runs: here the receiver, and processes that keep every CPU
// busy. Those are never reported as owners.
func TestOwnerOfWhatInterruptsSend(t *testing.T) {
	l := newLab(t)
	bigSegments(t)
	remote := l.discard(farAddress6.Addr())
	var bystanders []int
	for cpu := range onlineCPUs(t) {
		p := process.Start(t, "bystander", 0, "busy", strconv.Itoa(cpu))
		p.Line()
		bystanders = append(bystanders, p.PID())
	}
	packets := traceNear(t)
	sender := process.Start(t, "streaming", 0, "stream", remote, strconv.Itoa(streamBytes))
	port := uint16(sender.Number())
	byItself, byInterrupt := 0, 0
	for deadline := time.Now().Add(patience); byInterrupt < 50 && time.Now().Before(deadline); {
		p, err := packets.read(time.Second)
		if errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		must(t, err)
		if p.Flow == nil || p.Flow.Source.Port() != port {
			continue
		}
		if p.Process == nil || p.Process.PID != sender.PID() || p.Process.Comm != "streaming" || p.Process.UID != 0 {
			t.Fatalf("process %+v, want %d, streaming; bystanders %v; sender %+v", p.Process, sender.PID(), bystanders, p.Sender)
		}
		switch {
		case p.Sender == nil:
			byInterrupt++
		case p.Sender.PID != sender.PID():
			t.Fatalf("the kernel side names %+v as the sender, want %d or none", p.Sender, sender.PID())
		default:
			byItself++
		}
	}
	t.Logf("%d segments by interrupts, %d by the process", byInterrupt, byItself)
	if byInterrupt < 50 {
		t.Errorf("%d segments sent by interrupts, want 50", byInterrupt)
	}
}

func onlineCPUs(t *testing.T) int {
	t.Helper()
	var set unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &set))
	return set.Count()
}

// nearPackets is a tracer in this process, to see what the output does not show.
type nearPackets struct {
	t      *testing.T
	reader *owner.Reader
}

func traceNear(t *testing.T) nearPackets {
	t.Helper()
	tracer, err := trace.Start(t.Context(), trace.Options{Interfaces: []string{"near"}, Records: true})
	must(t, err)
	reader := owner.NewReader(tracer.Read, tracer.Holders)
	t.Cleanup(func() {
		reader.Close()
		must(t, tracer.Close())
	})
	return nearPackets{t, reader}
}

func (n nearPackets) read(wait time.Duration) (event.Packet, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), wait)
	defer cancel()
	return n.reader.Read(ctx)
}

// discard accepts connections at the far end and reads from them; what it returns is where.
func (l *lab) discard(at netip.Addr) string {
	l.t.Helper()
	var listener net.Listener
	must(l.t, l.far.Namespace.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
		return err
	}))
	l.t.Cleanup(func() { must(l.t, listener.Close()) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

// drain connects to an address from the far end and reads, until the end of the test.
func (l *lab) drain(at netip.AddrPort) {
	l.t.Helper()
	must(l.t, l.far.Namespace.Do(func() error {
		conn, err := new(net.Dialer).DialContext(l.t.Context(), "tcp", at.String())
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { _ = conn.Close() })
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		return nil
	}))
}

// A server and the child that it leaves a connection to both hold it: the child is seen
// sending, and is named from then on; before that the server may be.
func TestOwnerOfSharedSocket(t *testing.T) {
	l := newLab(t)
	bigSegments(t)
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json")
	server := process.Start(t, "serving-parent", 0, "server", netip.AddrPortFrom(nearAddress6.Addr(), 0).String(), strconv.Itoa(streamBytes/8))
	port := server.Number()
	l.drain(netip.AddrPortFrom(nearAddress6.Addr(), uint16(port)))
	child := server.Number()
	server.End() // both wait until everything was written
	output := watch.Stop()
	records := recordsFrom(&output, port)
	seen := false
	for i := range records {
		p := records[i].Process
		switch {
		case p == nil:
			t.Fatalf("record %d: nobody, want the child or its parent", i)
		case p.PID == child && p.Comm == "serving-child":
			seen = true
		case seen || p.PID != server.PID() || p.Comm != "serving-parent":
			t.Fatalf("record %d: %+v, want the child %d, or before that its parent %d", i, p, child, server.PID())
		}
	}
	if !seen && tellsSenders(t) {
		t.Errorf("%d records, none of the child", len(records))
	}
}

// Filters by owner, port, host and slots show what they say, and count what they do not.
func TestFilters(t *testing.T) {
	l := newLab(t)
	one, two := l.udpSink(farAddress.Addr()).Local(), l.udpSink(farAddress6.Addr()).Local()
	for _, test := range []struct {
		name    string
		flags   []string
		shown   int
		status  int
		leftOut uint64
	}{
		{"none", nil, 5, 0, 0},
		{"name", []string{"--comm", "chosen"}, 3, 0, 2},
		{"two names", []string{"--comm", "chosen", "--comm", "other"}, 5, 0, 0},
		{"host", []string{"--host", farAddress6.Addr().String()}, 2, 0, 3},
		{"network", []string{"--host", "10.98.0.0/16", "--comm", "chosen"}, 3, 0, 2},
		{"port", []string{"--port", strconv.Itoa(int(two.Port()))}, 2, 0, 3},
		{"slots", []string{"--min-slots", "200"}, 0, 0, 5},
		{"verdict", []string{"--verdict", "over_limit"}, 5, 0, 0},
		{"another verdict", []string{"--verdict", "dropped", "--exit-code"}, 0, 0, 5},
		{"cause", []string{"--cause", "too_many_slots"}, 0, 0, 5},
		{"a process that is not there", []string{"--pid", "1"}, 0, 0, 5},
	} {
		watch := tool.Start(t, append([]string{xentrace, "watch", "-i", "near", "-o", "json"}, test.flags...)...)
		chosen := process.Start(t, "chosen", 0, "threads", one.String(), "3")
		other := process.Start(t, "other", 0, "threads", two.String(), "2")
		for range 3 {
			chosen.Line()
		}
		for range 2 {
			other.Line()
		}
		output := watch.Stop() // while both hold their sockets
		chosen.End()
		other.End()
		if len(output.Packets) != test.shown || output.Summary.LeftOut != test.leftOut || output.Status != test.status {
			t.Errorf("%s: %d shown, %d left out, status %d: want %d, %d, %d", test.name,
				len(output.Packets), output.Summary.LeftOut, output.Status, test.shown, test.leftOut, test.status)
		}
		if i := output.Only(t); i.OverLimit != 5 {
			t.Errorf("%s: %d over the limit in the summary, want all 5", test.name, i.OverLimit)
		}
		if got, want := strings.Join(output.Summary.Filter, " "), strings.Join(test.flags, " "); test.name != "another verdict" && got != want {
			t.Errorf("%s: filter %q, want %q", test.name, got, want)
		}
	}
}
