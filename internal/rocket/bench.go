package rocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/socket"
)

// bench is what the bytes of packets are put in place with: a thread of its own
// and the connection that moves its page fragment on.
type bench struct {
	*thread
	*filler
}

func newBench(ctx context.Context) (*bench, error) {
	f, err := newFiller(ctx)
	if err != nil {
		return nil, err
	}
	t, err := newThread()
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return &bench{thread: t, filler: f}, nil
}

// send runs write, which writes one packet to conn, on the bench's thread and
// leaves the thread as planned. Waiting in write ends when ctx does.
func (b *bench) send(ctx context.Context, p plan, conn interface{ SetDeadline(time.Time) error }, write func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Left over if ctx ended before.
	if err := b.drain(ctx); err != nil {
		return err
	}
	err := b.run(func() error {
		release := socket.Interruptible(ctx, conn)
		defer release()
		if err := write(); err != nil {
			return err
		}
		return b.filler.write(p.after)
	})
	// The packet is on its way. What cannot be read now is read before the next.
	_ = b.drain(ctx)
	if err != nil {
		return errors.Join(err, b.renew())
	}
	return nil
}

// renew takes another thread, since this one's fragment is wherever it was left.
func (b *bench) renew() error {
	t, err := newThread()
	if err == nil {
		b.thread.close()
		b.thread = t
	}
	return err
}

func (b *bench) close() error {
	b.thread.close()
	return b.filler.close()
}

// thread is a thread of the operating system that nobody else sends from.
type thread struct{ jobs chan func() }

// newThread returns a thread that was made for it, so that its page fragment is
// empty. A new goroutine may get a thread that has run others, and sent for them:
// such a one is held until the runtime has made a new one, and ends then: given back, all
// would have to be held again, and more, for the next. (The runtime parks the main thread
// instead. A child with Pdeathsig must not be started from a thread that is not locked.)
// Before the new one is
// found to be new, nothing else is known to run on it, but the runtime does not
// promise that; what it would spoil is the first packet.
func newThread() (*thread, error) {
	old, err := threads()
	if err != nil {
		return nil, err
	}
	t := &thread{jobs: make(chan func())}
	found := make(chan struct{})
	go t.seek(old, found)
	<-found
	return t, nil
}

// seek does the jobs if its thread is not among the old ones, else it keeps the
// thread busy until another call has found one.
func (t *thread) seek(old map[string]bool, found chan struct{}) {
	runtime.LockOSThread()
	if old[strconv.Itoa(unix.Gettid())] {
		go t.seek(old, found)
		<-found
		return
	}
	close(found)
	for job := range t.jobs {
		job()
	}
	// The goroutine ends locked, and the runtime ends the thread with it.
}

func (t *thread) run(fn func() error) error {
	result := make(chan error, 1)
	t.jobs <- func() { result <- fn() }
	return <-result
}

func (t *thread) close() { close(t.jobs) }

func threads() (map[string]bool, error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("threads: %w", err)
	}
	ids := make(map[string]bool, len(entries))
	for _, entry := range entries {
		ids[entry.Name()] = true
	}
	return ids, nil
}

// filler is a TCP connection to itself over loopback. What is written to it moves
// the writing thread's page fragment on; it stays unread until the packet is on
// its way, since a block whose users have all gone is used again from its start.
type filler struct {
	writer, reader *net.TCPConn
	raw            syscall.RawConn // of writer
	unread         int             // bytes
	data           []byte
}

// fillerBuffer is half of what the connection's buffers hold at each end, if
// net.core.wmem_max and rmem_max allow it: for one packet some 128 KiB are written.
const fillerBuffer = 256 << 10

// loopbackPatience is how long a connection over loopback may take: where a packet filter
// drops it the kernel would try for two minutes.
const loopbackPatience = 5 * time.Second

// newFiller connects over loopback, with IPv4 or, without that, IPv6, in the
// network namespace of the calling thread.
func newFiller(ctx context.Context) (*filler, error) {
	var errs []error
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		f, err := connectFiller(ctx, address)
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("loopback connection (is lo up in this network namespace?): %w", errors.Join(errs...))
}

func connectFiller(ctx context.Context, address string) (*filler, error) {
	large := func(_, _ string, conn syscall.RawConn) error {
		return socket.Control(conn, func(fd int) error {
			// Before the connection is made, so that the window can be scaled.
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, fillerBuffer),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, fillerBuffer))
		})
	}
	config := net.ListenConfig{Control: large, KeepAlive: -1}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	d := net.Dialer{Control: large, KeepAlive: -1, Timeout: loopbackPatience}
	conn, err := d.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	f := &filler{writer: conn.(*net.TCPConn), data: make([]byte, 16<<10)}
	if f.raw, err = f.writer.SyscallConn(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	// Anyone on the machine could have connected too.
	for f.reader == nil {
		other, err := listener.Accept()
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		if other.RemoteAddr().String() == f.writer.LocalAddr().String() {
			f.reader = other.(*net.TCPConn)
		} else {
			other.Close()
		}
	}
	return f, nil
}

// write moves the calling thread's page fragment on by n bytes. It waits for
// nothing: what was written is to lie there until the packet is sent.
func (f *filler) write(n int) error {
	for n > 0 {
		taken := 0
		err := socket.Control(f.raw, func(fd int) (err error) {
			taken, err = unix.SendmsgN(fd, f.data[:min(n, len(f.data))], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			return err
		})
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("loopback connection takes only %d bytes (net.core.wmem_max, rmem_max): %w", f.unread, err)
		}
		if err != nil {
			return fmt.Errorf("loopback connection: %w", err)
		}
		n -= taken
		f.unread += taken
	}
	return nil
}

func (f *filler) drain(ctx context.Context) error {
	defer socket.Interruptible(ctx, f.reader)()
	n, err := io.CopyN(io.Discard, f.reader, int64(f.unread))
	f.unread -= int(n)
	if err != nil {
		return fmt.Errorf("loopback connection: %w", socket.Ended(ctx, err))
	}
	return nil
}

func (f *filler) close() error {
	err := f.writer.Close()
	if f.reader != nil {
		err = errors.Join(err, f.reader.Close())
	}
	return err
}
