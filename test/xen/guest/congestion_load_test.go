//go:build xenlab

package guest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	discardPort = 9
	echoPort    = 7
)

// A load sends until ctx ends and returns how many packets or connections that was.
type load func(ctx context.Context, t *testing.T) uint64

// flood sends small datagrams, as many as go, from some senders at once.
func flood(senders int) load {
	return func(ctx context.Context, t *testing.T) uint64 { return paced(ctx, t, senders, 0) }
}

// paced sends small datagrams with a pause behind each.
func paced(ctx context.Context, t *testing.T, senders int, pause time.Duration) uint64 {
	to := netip.AddrPortFrom(peerAddr(t, "ipv4"), discardPort)
	var sent atomic.Uint64
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			conn, err := net.Dial("udp", to.String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
			payload := make([]byte, 32)
			for ctx.Err() == nil {
				if _, err := conn.Write(payload); err == nil {
					sent.Add(1)
				}
				time.Sleep(pause)
			}
		})
	}
	all.Wait()
	return sent.Load()
}

// requests opens a connection, sends a request, reads its response and closes, over
// and over, from some clients at once.
func requests(at netip.AddrPort, clients int, pause time.Duration) load {
	return func(ctx context.Context, t *testing.T) uint64 {
		var done atomic.Uint64
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for ctx.Err() == nil {
					if err := request(at); err != nil {
						t.Error(err)
						return
					}
					done.Add(1)
					time.Sleep(pause)
				}
			})
		}
		all.Wait()
		return done.Load()
	}
}

func request(at netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp", at.String(), 20*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("request")); err != nil {
		return err
	}
	var answer [7]byte
	_, err = conn.Read(answer[:])
	return err
}

// served is a server of this guest's: dom0's clients connect, ask, are answered and close,
// that many times in all. Returned is how many connections it accepted.
func served(port, requests, clients int) load {
	return func(_ context.Context, t *testing.T) uint64 {
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: port})
		if err != nil {
			t.Error(err)
			return 0
		}
		done := dom0(t, fmt.Sprintf("request %d %d %d", requests, clients, port))
		var accepted atomic.Uint64
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					accepted.Add(1)
					_, _ = io.Copy(conn, conn) // until the client closes
					_ = conn.Close()
				}
			})
		}
		done()
		_ = listener.Close()
		all.Wait()
		return accepted.Load()
	}
}

// tcpCounter reads one of the kernel's counters of TCP, by its name in /proc/net/snmp.
func tcpCounter(t *testing.T, name string) uint64 {
	t.Helper()
	var names []string
	for line := range strings.Lines(readFile(t, "/proc/net/snmp")) {
		fields := strings.Fields(line)
		switch {
		case fields[0] != "Tcp:":
		case names == nil:
			names = fields
		default:
			return uint64(atoi(t, fields[slices.Index(names, name)]))
		}
	}
	t.Fatalf("no counter %s", name)
	return 0
}
