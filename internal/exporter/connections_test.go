package exporter

import (
	"net"
	"net/http"
	"testing"
)

// at is a connection from an address.
type at struct {
	net.Conn
	address string
}

func (a *at) RemoteAddr() net.Addr {
	address, err := net.ResolveTCPAddr("tcp", a.address)
	if err != nil {
		panic(err)
	}
	return address
}

func TestConnectionThatIsClosed(t *testing.T) {
	type step struct {
		address string
		state   http.ConnState
	}
	const fresh, active, idle = http.StateNew, http.StateActive, http.StateIdle
	for name, test := range map[string]struct {
		held []step
		want int // -1: none
	}{
		"fewer than may be":         {[]step{{"192.0.2.1:1", idle}, {"192.0.2.1:2", idle}}, -1},
		"the oldest":                {[]step{{"192.0.2.1:1", idle}, {"192.0.2.1:2", fresh}, {"192.0.2.1:3", idle}}, 0},
		"none with a request":       {[]step{{"192.0.2.1:1", active}, {"192.0.2.1:2", active}, {"192.0.2.1:3", fresh}}, 2},
		"the oldest of requests":    {[]step{{"192.0.2.1:1", active}, {"192.0.2.1:2", active}, {"192.0.2.1:3", active}}, 0},
		"of the peer with most":     {[]step{{"192.0.2.1:1", idle}, {"192.0.2.2:1", active}, {"192.0.2.2:2", active}}, 1},
		"an IPv6 network is a peer": {[]step{{"[2001:db8::1]:1", idle}, {"[2001:db8:0:1::1]:1", idle}, {"[2001:db8:0:1::2]:1", idle}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := newConnections(3)
			var all []*at
			for _, s := range test.held {
				conn := &at{address: s.address}
				all = append(all, conn)
				if victim := c.change(conn, fresh); victim != nil {
					t.Fatalf("%v is closed", victim.RemoteAddr())
				}
				if s.state != fresh {
					c.change(conn, s.state)
				}
			}
			victim := c.change(&at{address: "192.0.2.9:1"}, fresh)
			switch {
			case test.want < 0 && victim != nil:
				t.Errorf("%v is closed, want none", victim.RemoteAddr())
			case test.want >= 0 && victim != all[test.want]:
				t.Errorf("%v is closed, want %s", victim, all[test.want].address)
			}
			if len(c.all) != 3 {
				t.Errorf("%d are held, want 3", len(c.all))
			}
		})
	}
}

func TestClosedConnectionsAreForgotten(t *testing.T) {
	c := newConnections(1)
	for range 3 {
		conn := &at{address: "192.0.2.1:1"}
		if victim := c.change(conn, http.StateNew); victim != nil {
			t.Errorf("%v is closed", victim)
		}
		c.change(conn, http.StateActive)
		c.change(conn, http.StateClosed)
	}
	if c.change(&at{address: "192.0.2.1:1"}, http.StateIdle); len(c.all) != 0 {
		t.Errorf("%d are held, want none", len(c.all))
	}
}
