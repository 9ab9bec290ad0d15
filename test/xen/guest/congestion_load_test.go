//go:build xenlab

package guest

import (
	"context"
	"net"
	"net/netip"
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
