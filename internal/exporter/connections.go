package exporter

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// connections bounds the connections of all listeners. A new one is always accepted: once there
// are too many, one of the peer that has most is closed. Who fills them up cannot keep a scraper
// out by keeping them.
type connections struct {
	most int

	mu  sync.Mutex
	all map[net.Conn]*connection
}

type connection struct {
	peer   netip.Prefix
	active bool      // a request was read and is not answered yet
	since  time.Time // of its state
}

func newConnections(most int) *connections {
	return &connections{most: most, all: make(map[net.Conn]*connection)}
}

// follow is the ConnState of a server.
func (c *connections) follow(conn net.Conn, state http.ConnState) {
	if encrypted, is := conn.(*tls.Conn); is {
		conn = encrypted.NetConn() // its Close does not wait for the peer
	}
	if victim := c.change(conn, state); victim != nil {
		_ = victim.Close()
	}
}

// change takes in a state and returns what is to be closed, or nil.
func (c *connections) change(conn net.Conn, state http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch known := c.all[conn]; {
	case state == http.StateClosed || state == http.StateHijacked:
		delete(c.all, conn)
	case state == http.StateNew:
		if len(c.all) >= c.most {
			victim = c.least()
			delete(c.all, victim)
		}
		c.all[conn] = &connection{peer: peerOf(conn.RemoteAddr()), since: time.Now()}
	case known != nil:
		known.active, known.since = state == http.StateActive, time.Now()
	}
	return victim
}

// least returns the connection that is closed first: of the peer that has most, one without a
// request before one with, and the oldest of these.
func (c *connections) least() (least net.Conn) {
	counts := make(map[netip.Prefix]int)
	for _, n := range c.all {
		counts[n.peer]++
	}
	for conn, n := range c.all {
		if least == nil || n.before(c.all[least], counts) {
			least = conn
		}
	}
	return least
}

func (c *connection) before(other *connection, counts map[netip.Prefix]int) bool {
	if mine, its := counts[c.peer], counts[other.peer]; mine != its {
		return mine > its
	}
	if c.active != other.active {
		return !c.active
	}
	return c.since.Before(other.since)
}

// peerOf is the network of one host: an IPv6 host has a /64.
func peerOf(a net.Addr) netip.Prefix {
	parsed, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{} // a socket from systemd may have no addresses
	}
	address, bits := parsed.Addr().Unmap().WithZone(""), 32
	if address.Is6() {
		bits = 64
	}
	prefix, _ := address.Prefix(bits) // bits are in range
	return prefix
}
