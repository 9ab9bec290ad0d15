//go:build xenlab

package guest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// A backend that takes nothing for some seconds, and one whose CPU is taken from it:
// the ring fills, and that is what is reported.
func TestCongestionOfAFullRing(t *testing.T) {
	const slow = 6 * time.Second
	for _, test := range []struct {
		action  string
		longest uint64 // microseconds from a stop of the queue to its wake, at least
	}{{"stall", 1 << 19}, {"starve", 1 << 13}} {
		t.Run(test.action, func(t *testing.T) {
			var done func()
			p := measure(t, func(ctx context.Context, t *testing.T) uint64 {
				done = dom0(t, fmt.Sprintf("%s %d", test.action, int(slow.Seconds())))
				return flood(8)(ctx, t) // a socket's send buffer holds less than a ring
			}, slow+3*time.Second)
			done()
			p.agrees(t)
			p.is(t, event.LimitRing)
			if full := p.report.FullShare() * p.report.Duration.Seconds(); full < 0.5 || full > p.report.Duration.Seconds() {
				t.Errorf("full for %.1f s", full)
			}
			if p.report.Total.Stops == 0 || p.report.Total.Wake.Quantile(1) < test.longest || !p.judgment.SmallPackets {
				t.Errorf("%d stops, wakes %v, small packets %v", p.report.Total.Stops, p.report.Total.Wake, p.judgment.SmallPackets)
			}
			if driverTypes() && (p.full == 0 || p.report.Total.Occupancy[9] == 0) {
				t.Errorf("%d of %d samples full, occupancy %v", p.full, p.samples, p.report.Total.Occupancy)
			}
		})
	}
}

// A load that is no trouble to anybody.
func TestCongestionOfAHealthyGuest(t *testing.T) {
	p := measure(t, func(ctx context.Context, t *testing.T) uint64 { return paced(ctx, t, 2, 10*time.Millisecond) }, 4*time.Second)
	p.agrees(t)
	p.is(t, event.LimitNone)
}

// A frontend that does not trust its backend copies every packet.
func TestCongestionOfCopies(t *testing.T) {
	defer reconnected(t, "trusted", "0")()
	p := measure(t, func(ctx context.Context, t *testing.T) uint64 { return paced(ctx, t, 2, 10*time.Millisecond) }, 4*time.Second)
	if copied := p.report.Total.Copied; copied == nil || *copied != p.report.Total.Packets {
		t.Errorf("%v copied of %d", copied, p.report.Total.Packets)
	}
	p.is(t, event.LimitCopies)
}

// The same with a single sender: its send buffer holds less than a ring from 6.12 on, and
// the ring need not be full for the backend to be the limit.
func TestCongestionOfASlowBackend(t *testing.T) {
	const slow = 4 * time.Second
	var done func()
	p := measure(t, func(ctx context.Context, t *testing.T) uint64 {
		done = dom0(t, fmt.Sprintf("stall %d", int(slow.Seconds())))
		return flood(1)(ctx, t)
	}, slow+3*time.Second)
	done()
	p.agrees(t)
	p.is(t, event.LimitRing)
	// Without the driver's BTF (5.10) that is not known; there the ring is full.
	if longest := p.report.Total.Latency.Quantile(1); driverTypes() && longest < uint64(slow.Microseconds()/2) {
		t.Errorf("%d us to an answer at most", longest)
	}
}

// A listener that takes its time, with room for a few connections: it is named, and
// every accept is counted with the time that it took.
func TestCongestionOfAnAcceptQueue(t *testing.T) {
	listening, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listening)
	const port, backlog = 7070, 2
	if err := unix.Bind(listening, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listening, backlog); err != nil {
		t.Fatal(err)
	}
	var accepts atomic.Uint64
	p := measure(t, func(ctx context.Context, t *testing.T) uint64 {
		for range 12 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Error(err)
				return 0
			}
			defer unix.Close(fd)
			_ = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port})
		}
		for ctx.Err() == nil {
			ready, _ := unix.Poll([]unix.PollFd{{Fd: int32(listening), Events: unix.POLLIN}}, 100)
			if ready < 1 {
				continue
			}
			time.Sleep(200 * time.Millisecond)
			fd, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC)
			if err != nil {
				t.Error(err)
				return 0
			}
			defer unix.Close(fd)
			accepts.Add(1)
		}
		return accepts.Load()
	}, 5*time.Second)
	p.is(t, event.LimitAcceptQueue)
	tcp := p.report.TCP
	if tcp == nil || tcp.Accepts == nil || *tcp.Accepts != accepts.Load() || tcp.Established < *tcp.Accepts || tcp.Accept.Count() != *tcp.Accepts {
		t.Fatalf("%+v, want %d accepts", tcp, accepts.Load())
	}
	if tcp.Accept.Quantile(0.5) < 1<<17 || *tcp.Overflows == 0 || len(tcp.Listeners) != 1 || tcp.Listeners[0].Port != port || tcp.Listeners[0].Limit != backlog {
		t.Errorf("waits %v, %d overflows, listeners %+v", tcp.Accept, *tcp.Overflows, tcp.Listeners)
	}
}

// One queue for two CPUs, with connections that keep the one of them busy that has
// its interrupts.
func TestCongestionOfOneQueue(t *testing.T) {
	if atoi(t, env(t, "XENTRACE_LAB_VCPUS")) < 2 {
		t.Skip("one CPU cannot be the busy one of several (--vcpus 2)")
	}
	defer reconnected(t, "max_queues", "1")()
	// A server of one thread, on the CPU that has the interrupts.
	at := netip.AddrPortFrom(peerAddr(t, "ipv4"), echoPort)
	cpu := interruptsCPU(t, func() {
		for range 20 {
			if err := request(at); err != nil {
				t.Fatal(err)
			}
		}
	})
	defer pin(t, 0, 1)
	pin(t, cpu)
	p := measure(t, func(ctx context.Context, t *testing.T) uint64 {
		go func() { // what the server does next to its connections
			for ctx.Err() == nil {
				runtime.Gosched()
			}
		}()
		return requests(at, 8, 0)(ctx, t)
	}, 6*time.Second)
	p.agrees(t)
	p.is(t, event.LimitOneQueue)
}

// reconnected makes the interface anew with one of the driver's parameters set, and
// returns how to put it back.
func reconnected(t *testing.T, parameter, value string) (undo func()) {
	t.Helper()
	path := "/sys/module/xen_netfront/parameters/" + parameter
	was := readFile(t, path)
	set := func(value string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		command(t, "netfront", "unbind")
		command(t, "netfront", "bind")
	}
	set(value)
	return func() { set(was) }
}

// interruptsCPU returns the CPU that had most of the interface's interrupts while
// something was done.
func interruptsCPU(t *testing.T, do func()) int {
	t.Helper()
	read := func() []uint64 {
		sum := make([]uint64, 2)
		for _, line := range kernel.ParseInterrupts(readFile(t, "/proc/interrupts")) {
			for cpu, n := range line.ByCPU {
				if line.Serves(ifname, "vif-0") && cpu < len(sum) {
					sum[cpu] += n
				}
			}
		}
		return sum
	}
	before := read()
	do()
	after := read()
	t.Logf("interrupts %v, before %v", after, before)
	if after[1]-before[1] > after[0]-before[0] {
		return 1
	}
	return 0
}

// pin keeps every thread of the test, and those to come, on these CPUs.
func pin(t *testing.T, cpus ...int) {
	t.Helper()
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if err := unix.SchedSetaffinity(atoi(t, thread.Name()), &set); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
}
