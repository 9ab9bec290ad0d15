// Peer is the other end of the guest's link: it runs in dom0, receives what the
// guest sends, and reports how much that was.
//
// On 10.44.0.1 and fd44::1 (in the guest: XENTRACE_PEER, XENTRACE_PEER6):
//
//	7000 TCP            control: one command a line, one JSON object a line back
//	                    (package counts): counts, reset, mtu N, do ACTION
//	7001 to 7032 UDP    sinks, which count datagrams and bytes
//	7001 to 7032 TCP    sinks, which count connections and bytes
//	9 UDP and TCP       discard: received, not counted
//	7 TCP               echo
//
// The guest is 10.44.0.2 and fd44::2. Both ends have fixed neighbour entries and
// send no router or listener messages, so the link is quiet when nobody sends.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"xentrace/test/xen/peer/counts"
)

const (
	firstSink   = 7001
	lastSink    = 7032
	discardPort = 9
	echoPort    = 7
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "peer: %v\n", err)
		os.Exit(1)
	}
}

// serve opens every port, then waits for ctx to end.
func serve(ctx context.Context) error {
	var l ledger
	for port := firstSink; port <= lastSink; port++ {
		if err := listenUDP(ctx, port, &l); err != nil {
			return err
		}
		if err := listenTCP(ctx, port, l.sink); err != nil {
			return err
		}
	}
	if err := listenUDP(ctx, discardPort, nil); err != nil {
		return err
	}
	if err := listenTCP(ctx, discardPort, discard); err != nil {
		return err
	}
	if err := listenTCP(ctx, echoPort, echo); err != nil {
		return err
	}
	c := control{ledger: &l, vif: vifDir, deeds: &deeds{
		program: "toolstack",
		own:     map[string]func([]string) error{"request": request, "stream": stream},
	}}
	if err := listenTCP(ctx, counts.ControlPort, c.answer); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// listenTCP accepts connections on a port and hands each to its own handle.
func listenTCP(ctx context.Context, port int, handle func(*net.TCPConn)) error {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{Port: port})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return nil
}
