// Package expression compiles pcap filter expressions, as tcpdump takes them, and matches
// packets by their headers.
package expression

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/bpf"

	"xentrace/internal/event"
	"xentrace/internal/header"
)

// maxLength is how long an expression may be, in bytes.
const maxLength = 4096

// An Expression is a compiled filter. It may be used by several goroutines at once.
type Expression struct {
	text    string
	needs   string
	machine *bpf.VM
}

// Compile compiles an expression. What it accepts, tcpdump accepts too and matches the
// same whole packets with, Ethernet being the link layer. An error names what is not
// accepted, its column, and what to write instead.
func Compile(text string) (*Expression, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("%d bytes: must be at most %d", len(text), maxLength)
	}
	p := &parser{text: text, link: 12, net: header.Ethernet}
	tree, err := p.parse()
	if err != nil {
		return nil, err
	}
	machine, err := bpf.NewVM(assemble(tree))
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	return &Expression{text: text, needs: p.needs, machine: machine}, nil
}

// String returns the expression as it was written.
func (e *Expression) String() string { return e.text }

// Needs returns the first primitive that only the packet's own header answers, such as
// "ether host", or "" if addresses, ports, protocol and length are enough.
func (e *Expression) Needs() string { return e.needs }

// Match reports whether a packet passes: by its own header if it was read, else by its
// record, where VLAN tags are not known. A packet does not pass if what the
// expression asks for is not known, or lies behind the bytes that were read.
func (e *Expression) Match(p *event.Packet) bool {
	frame := header.Of(p)
	if frame.Reconstructed && e.needs != "" {
		return false
	}
	var room [prefix + 256]byte
	in := binary.BigEndian.AppendUint32(room[:0], uint32(frame.Len))
	n, err := e.machine.Run(append(in, frame.Bytes...))
	return err == nil && n > 0
}

// joined is a phrase of words that were written apart.
func joined(words ...string) string {
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}
