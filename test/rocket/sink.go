package rocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"xentrace/internal/socket"
)

// UDPSink receives datagrams of this package and checks every byte.
type UDPSink struct {
	conn *net.UDPConn
	done chan struct{}

	mu       sync.Mutex
	received UDPReceived
}

// UDPReceived is what a [UDPSink] has received.
type UDPReceived struct {
	Datagrams uint64 // right to the last byte
	Bytes     uint64 // of their payload
	Foreign   uint64 // not of this package
	Corrupt   error  // the first that was wrong, nil if none
	Refused   int    // turned away since the receive buffer was full
}

// NewUDPSink begins to receive at that address, with a socket in the network
// namespace of the calling thread. Port 0 means any.
func NewUDPSink(ctx context.Context, at netip.AddrPort) (*UDPSink, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, fmt.Errorf("udp sink: %w", err)
	}
	s := &UDPSink{conn: conn.(*net.UDPConn), done: make(chan struct{})}
	if err := s.enlarge(); err != nil {
		return nil, errors.Join(fmt.Errorf("udp sink: %w", err), conn.Close())
	}
	go s.receive()
	return s, nil
}

// enlarge asks for a receive buffer that some hundred many-slot packets fit in:
// each is accounted with the pages it is in. Without CAP_NET_ADMIN it is as
// large as net.core.rmem_max allows; what does not fit is counted.
func (s *UDPSink) enlarge() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	const size = 32 << 20
	return socket.Control(raw, func(fd int) error {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil {
			return nil
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	})
}

// Local returns the address it receives at.
func (s *UDPSink) Local() netip.AddrPort { return socket.AddrPort(s.conn.LocalAddr()) }

// receive runs until the socket is closed.
func (s *UDPSink) receive() {
	defer close(s.done)
	data := make([]byte, 1<<16)
	for {
		n, err := s.conn.Read(data)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an error that an earlier datagram brought back
		}
		_, err = CheckDatagram(data[:n])
		s.mu.Lock()
		switch {
		case err == nil:
			s.received.Datagrams++
			s.received.Bytes += uint64(n)
		case errors.Is(err, ErrForeign):
			s.received.Foreign++
		case s.received.Corrupt == nil:
			s.received.Corrupt = err
		}
		s.mu.Unlock()
	}
}

// Received returns what has been received until now.
func (s *UDPSink) Received() UDPReceived {
	refused, err := socket.ReceiveDrops(s.conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.received.Refused = refused
	}
	return s.received
}

// Close ends it.
func (s *UDPSink) Close() error {
	s.Received() // the last look at what was refused
	err := s.conn.Close()
	<-s.done
	return err
}

// TCPSink accepts connections and checks every byte that a [TCP] or a [Stream] sends.
type TCPSink struct {
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	open     map[net.Conn]bool
	received TCPReceived
	closed   bool
}

// TCPReceived is what a [TCPSink] has received.
type TCPReceived struct {
	Connections uint64
	Bytes       uint64 // right ones, of all connections
	Corrupt     error  // the first byte that was wrong, nil if none
}

// NewTCPSink begins to accept connections at that address, with sockets in the
// network namespace of the calling thread. Port 0 means any.
func NewTCPSink(ctx context.Context, at netip.AddrPort) (*TCPSink, error) {
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("tcp sink: %w", err)
	}
	s := &TCPSink{listener: listener, open: make(map[net.Conn]bool)}
	s.running.Go(s.accept)
	return s, nil
}

// Local returns the address it accepts connections at.
func (s *TCPSink) Local() netip.AddrPort { return socket.AddrPort(s.listener.Addr()) }

// accept runs until the listener is closed.
func (s *TCPSink) accept() {
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the connection was reset before it was accepted
		}
		s.mu.Lock()
		if s.closed {
			conn.Close()
		} else {
			s.open[conn] = true
			s.received.Connections++
			s.running.Go(func() { s.receive(conn) })
		}
		s.mu.Unlock()
	}
}

// receive checks what one connection brings, to its end.
func (s *TCPSink) receive(conn net.Conn) {
	checker := &StreamChecker{}
	_, err := io.CopyBuffer(countedWriter{s, checker}, struct{ io.Reader }{conn}, make([]byte, 128<<10))
	s.mu.Lock()
	defer s.mu.Unlock()
	var corrupt *CorruptError
	if errors.As(err, &corrupt) && s.received.Corrupt == nil {
		s.received.Corrupt = err
	}
	delete(s.open, conn)
	conn.Close()
}

// countedWriter counts what its checker found right.
type countedWriter struct {
	sink    *TCPSink
	checker *StreamChecker
}

func (w countedWriter) Write(data []byte) (int, error) {
	n, err := w.checker.Write(data)
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	w.sink.received.Bytes += uint64(n)
	return n, err
}

// Received returns what has been received until now.
func (s *TCPSink) Received() TCPReceived {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received
}

// Close ends it and its connections.
func (s *TCPSink) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.open {
		conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	return err
}
