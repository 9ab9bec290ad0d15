// Package counts is what the lab's peer shows about the traffic it received, and
// the way to ask it.
package counts

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
)

// ControlPort is the TCP port on which the peer answers questions.
const ControlPort = 7000

// Sink is what one port received over one protocol and address family.
type Sink struct {
	Proto       string `json:"proto"`       // "udp" or "tcp"
	Family      string `json:"family"`      // "ipv4" or "ipv6"
	Port        int    `json:"port"`        // destination port
	Datagrams   uint64 `json:"datagrams"`   // UDP datagrams; 0 for TCP
	Connections uint64 `json:"connections"` // accepted TCP connections; 0 for UDP
	Bytes       uint64 `json:"bytes"`       // payload bytes
}

// Counts is the peer's answer: every sink that received something, ordered by
// protocol, family and port, and the backend interface's own counters.
type Counts struct {
	Sinks []Sink `json:"sinks"`
	// Vif holds dom0's counters of the guest's vif by their sysfs names; what the
	// guest sent is rx_packets here.
	Vif   map[string]uint64 `json:"vif"`
	MTU   int               `json:"mtu"`   // of dom0's vif
	Error string            `json:"error"` // why a command was refused; empty if it was not

	Doing  string `json:"doing"`  // what "do" has dom0 doing to the guest now; empty for nothing
	Done   int    `json:"done"`   // how many such actions have ended
	Failed string `json:"failed"` // what the last one that ended said, if it failed
}

// Sink returns the counts of one sink, zeros if it received nothing.
func (c Counts) Sink(proto, family string, port int) Sink {
	for _, s := range c.Sinks {
		if s.Proto == proto && s.Family == family && s.Port == port {
			return s
		}
	}
	return Sink{Proto: proto, Family: family, Port: port}
}

// Ask sends one command to the peer at the given address and returns its answer:
// "counts"; "reset", which answers with the counts before it clears them; "mtu N",
// which sets the MTU of dom0's vif; or "do ACTION", which has dom0 do something to the
// guest (init/toolstack lists the actions) or, "do request REQUESTS CLIENTS PORT", ask
// a server in it. An action may take the network or the guest
// itself away, so it begins a moment after the answer; a later one says that it ended.
func Ask(ctx context.Context, addr, command string) (Counts, error) {
	var c Counts
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(addr, fmt.Sprint(ControlPort)))
	if err != nil {
		return c, fmt.Errorf("peer: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return c, fmt.Errorf("peer: %w", err)
		}
	}
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return c, fmt.Errorf("peer: %w", err)
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return c, fmt.Errorf("peer's answer to %q: %w", command, err)
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return c, fmt.Errorf("peer's answer to %q: %w", command, err)
	}
	if c.Error != "" {
		return c, fmt.Errorf("peer's answer to %q: %s", command, c.Error)
	}
	return c, nil
}
