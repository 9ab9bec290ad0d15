package rocket

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/socket"
	"xentrace/test/leak"
)

func TestUDPWithoutHighOrderPages(t *testing.T) {
	const setting = "/proc/sys/net/core/high_order_alloc_disable"
	before, err := os.ReadFile(setting)
	must(t, err)
	p := newPair(t, 1500)
	sink := p.udpSink(t, farAddress)
	sender := p.udp(t, sink.Local(), Options{})
	must(t, os.WriteFile(setting, []byte("1"), 0))
	_, err = sender.Send(t.Context())
	must(t, os.WriteFile(setting, before, 0))
	if !errors.Is(err, ErrSinglePages) {
		t.Errorf("error is %v, want %v", err, ErrSinglePages)
	}
	// The places are right again, and nothing was left over.
	o := observe(t, p.ifindex, p.near.inum)
	for range 50 {
		_, err := sender.Send(t.Context())
		must(t, err)
	}
	exactly(t, ofLength(o.packets(t), 14*80+42), 50, 27)
	got := settled(t, sink.Received, func(r UDPReceived) bool { return r.Datagrams == 50 })
	if got != (UDPReceived{Datagrams: 50, Bytes: 50 * 14 * 80}) {
		t.Errorf("received %+v, want 50 datagrams", got)
	}
}

func TestUDPToNobody(t *testing.T) {
	p := newPair(t, 1500)
	sender := p.udp(t, netip.AddrPortFrom(farAddress, 9), Options{})
	o := observe(t, p.ifindex, p.near.inum)
	for range 50 {
		_, err := sender.Send(t.Context())
		must(t, err)
		time.Sleep(time.Millisecond) // for "port unreachable" to come back
	}
	exactly(t, ofLength(o.packets(t), 14*80+42), 50, 27)
}

func TestSenderRefuses(t *testing.T) {
	p := newPair(t, 1500)
	udp, tcp := p.udpSink(t, farAddress).Local(), p.tcpSink(t, farAddress).Local()
	alone := newSpace(t) // its lo is down
	for _, test := range []struct {
		name string
		in   *space
		call func(context.Context) error
	}{
		{"UDP larger than the MTU", p.near, newUDP(udp, Options{Writes: 17, WriteLength: 100})},
		{"UDP with no room for the header", p.near, newUDP(udp, Options{WriteLength: 15})},
		{"UDP with long writes", p.near, newUDP(udp, Options{WriteLength: 4096})},
		{"UDP with fewer than no writes", p.near, newUDP(udp, Options{Writes: -1})},
		{"UDP to a device that is not there", p.near, newUDP(udp, Options{Device: "nothing"})},
		{"UDP with lo down", alone, newUDP(udp, Options{})},
		{"TCP larger than the segment", p.near, newTCP(tcp, Options{Writes: 17, WriteLength: 512})},
		{"TCP with lo down", alone, newTCP(tcp, Options{})},
		{"TCP to nobody", p.near, newTCP(netip.AddrPortFrom(farAddress, 9), Options{})},
	} {
		var err error
		test.in.do(t, func() error {
			err = test.call(t.Context())
			return nil
		})
		if err == nil {
			t.Errorf("%s: no error", test.name)
		} else {
			t.Logf("%s: %v", test.name, err)
		}
	}
}

func newUDP(remote netip.AddrPort, opts Options) func(context.Context) error {
	return func(ctx context.Context) error { _, err := NewUDP(ctx, remote, opts); return err }
}

func newTCP(remote netip.AddrPort, opts Options) func(context.Context) error {
	return func(ctx context.Context) error { _, err := NewTCP(ctx, remote, opts); return err }
}

// A far end that is gone acknowledges nothing: the connection is stuck.
func TestTCPThatIsStuck(t *testing.T) {
	p := newPair(t, 1500)
	sink := p.tcpSink(t, farAddress)
	patient, hasty := p.tcp(t, sink.Local(), Options{}), p.tcp(t, sink.Local(), Options{NoWait: true})
	p.far.do(t, func() error { return lower("far") })
	_, err := patient.Send(t.Context()) // the first waits for nothing
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := patient.Send(ctx); !errors.Is(err, ErrNotAcknowledged) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want %v", err, ErrNotAcknowledged)
	}
	for i := range 3 {
		sent, err := hasty.Send(t.Context())
		must(t, err)
		if sent.Position != uint64(i*sent.Length) {
			t.Errorf("sent %+v", sent)
		}
	}
	if left, err := hasty.Unacknowledged(); err != nil || left != 3*17*80 {
		t.Errorf("%d bytes not acknowledged, error %v, want %d", left, err, 3*17*80)
	}
	must(t, hasty.Abort())
	must(t, hasty.Close())
	if _, err := hasty.Send(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("error is %v, want %v", err, ErrClosed)
	}
}

func TestSendAfterCancel(t *testing.T) {
	p := newPair(t, 1500)
	sink := p.udpSink(t, farAddress)
	sender := p.udp(t, sink.Local(), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sender.Send(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*40)*time.Microsecond)
		sender.Send(ctx)
		cancel()
	}
	before := sink.Received()
	sent, err := sender.Send(t.Context())
	must(t, err)
	got := settled(t, sink.Received, func(r UDPReceived) bool { return r.Datagrams == sent.Number+1 })
	if got.Datagrams != sent.Number+1 || got.Foreign != 0 || got.Corrupt != nil {
		t.Errorf("received %+v after %+v, want %d datagrams", got, before, sent.Number+1)
	}
	must(t, sender.Close())
	must(t, sender.Close())
	if _, err := sender.Send(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("error is %v, want %v", err, ErrClosed)
	}
}

// What the kernel sent before the cork was out is reported.
func TestTCPSplit(t *testing.T) {
	p := newPair(t, 1500)
	sink := p.tcpSink(t, farAddress)
	sender := p.tcp(t, sink.Local(), Options{})
	raw, err := sender.Stream().SyscallConn()
	must(t, err)
	must(t, socket.Control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_CORK, 1) }))
	data := make([]byte, 80)
	fillPattern(data, 0, 0)
	_, err = sender.Stream().Write(data)
	must(t, err)
	settled(t, func() uint64 { return sink.Received().Bytes }, func(n uint64) bool { return n == 80 })
	if got := sink.Received().Bytes; got != 80 {
		t.Errorf("%d bytes of what was corked came out, want 80", got)
	}
	info, err := sender.Stream().Info()
	must(t, err)
	if info.Notsent_bytes != 0 {
		t.Errorf("%d bytes not sent, want 0", info.Notsent_bytes)
	}
}

// The test runs a copy of itself as an ordinary user, in a namespace where only lo is up.
func TestWithoutPrivilege(t *testing.T) {
	const variable = "ROCKET_TEST_UNPRIVILEGED"
	if os.Getenv(variable) != "" {
		withoutPrivilege(t)
		return
	}
	dir, err := os.MkdirTemp("", "rocket")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	program, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(dir+"/test", program, 0o755))
	s := newSpace(t)
	s.do(t, func() error { _, err := raise("lo"); return err })
	o := observe(t, 1, s.inum)
	s.do(t, func() error {
		cmd := exec.Command(dir+"/test", "-test.run=^TestWithoutPrivilege$", "-test.v", "-test.count=1")
		cmd.Dir, cmd.Env = dir, []string{variable + "=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		output, err := cmd.CombinedOutput()
		if !strings.Contains(string(output), "PASS: TestWithoutPrivilege") {
			t.Errorf("as an ordinary user: %s", output)
		}
		return err
	})
	packets := o.packets(t)
	exactly(t, ofLength(packets, 14*80+42), 50, 27)
	exactly(t, ofLength(packets, 17*80+66), 50, 35)
}

func withoutPrivilege(t *testing.T) {
	if os.Getuid() != 65534 {
		t.Fatalf("user is %d", os.Getuid())
	}
	here := netip.MustParseAddrPort("127.0.0.1:0")
	udpSink, err := NewUDPSink(t.Context(), here)
	must(t, err)
	defer udpSink.Close()
	tcpSink, err := NewTCPSink(t.Context(), here)
	must(t, err)
	defer tcpSink.Close()
	udp, err := NewUDP(t.Context(), udpSink.Local(), Options{Device: "lo"})
	must(t, err)
	defer udp.Close()
	tcp, err := NewTCP(t.Context(), tcpSink.Local(), Options{})
	must(t, err)
	defer tcp.Close()
	for range 50 {
		_, err := udp.Send(t.Context())
		must(t, err)
		sent, err := tcp.Send(t.Context())
		must(t, err)
		if sent.SeqKnown {
			t.Error("the sequence number was known without CAP_NET_ADMIN")
		}
	}
	settled(t, udpSink.Received, func(r UDPReceived) bool { return r.Datagrams == 50 })
	settled(t, tcpSink.Received, func(r TCPReceived) bool { return r.Bytes == 50*17*80 })
	if u, c := udpSink.Received(), tcpSink.Received(); u.Datagrams != 50 || c.Bytes != 50*17*80 {
		t.Errorf("received %+v and %+v", u, c)
	}
}

func TestNothingLeftBehind(t *testing.T) {
	p := newPair(t, 1500)
	udpSink, tcpSink := p.udpSink(t, farAddress), p.tcpSink(t, farAddress)
	once := func() {
		udp, tcp := p.udp(t, udpSink.Local(), Options{}), p.tcp(t, tcpSink.Local(), Options{})
		_, err := udp.Send(t.Context())
		must(t, err)
		_, err = tcp.Send(t.Context())
		must(t, err)
		must(t, errors.Join(udp.Close(), tcp.Close()))
	}
	once()
	settled(t, tcpSink.connections, func(n int) bool { return n == 0 })
	before := leak.Open(t)
	for range 20 {
		once()
	}
	if left := before.Left(t); left != nil {
		t.Errorf("descriptors left open: %q", left)
	}
}

// connections returns how many are open.
func (s *TCPSink) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}
