// Package pcapng writes events as a capture file that Wireshark and tshark read: a block
// for each packet, with what happened to it as a comment, and one for what was counted of
// each interface.
package pcapng

import (
	"fmt"
	"io"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/header"
	"xentrace/internal/output"
)

// A Sink writes events to a capture file. Each event is one write of whole blocks, so that
// a reader at the other end of a pipe sees it at once.
type Sink struct {
	w     io.Writer
	start *event.Start // the last; nil: not known
	host  string       // of the first
	begun bool         // the head is written
	began time.Time    // when counting began; zero until an event shows it

	interfaces map[place]*captured // of this boot
	described  uint32              // interfaces in the file so far
	packets    uint64              // in the file so far
	buffer     []byte
}

// A place is an interface by its name: a recorded change of a flow has no index.
type place struct {
	name  string
	netns uint32
}

// mostInterfaces is how many interfaces of one boot have a description block each; packets of
// later ones have one in common.
const mostInterfaces = 4096

// A captured interface has a description block.
type captured struct {
	number    uint32 // in the file
	counts    counts
	delivered uint64 // packets written
}

// New returns a Sink. start describes the machine and its interfaces; without it, nil, the
// first event may be a Start. Behind a Start of another boot or machine interfaces have
// descriptions of their own.
func New(w io.Writer, start *event.Start) *Sink {
	return &Sink{w: w, start: start}
}

// Emit writes one event. What a capture file has no place for is left out.
func (s *Sink) Emit(e event.Event) error {
	s.buffer = s.buffer[:0]
	if start, ok := e.(*event.Start); ok {
		s.restart(start)
		return s.flush()
	}
	s.section()
	switch e := e.(type) {
	case *event.Packet:
		s.packet(e)
	case *event.FlowEvent:
		s.remark(e.Time, e.Flow.Interface, output.FlowSentence(&e.Flow))
	case *event.Notice:
		s.remark(e.Time, e.Device, output.Sentence(e))
	case *event.Interval:
		s.interval(&e.Totals)
	case *event.Summary:
		s.summary(e)
	}
	return s.flush()
}

// Close writes the head of a file without events. The writer stays open.
func (s *Sink) Close() error {
	s.buffer = s.buffer[:0]
	s.section()
	return s.flush()
}

func (s *Sink) flush() error {
	if len(s.buffer) == 0 {
		return nil
	}
	_, err := s.w.Write(s.buffer)
	return err
}

// restart describes the interfaces anew if a Start is of another boot than the one before.
// A second section would be the format's way, but tshark 4.0 confuses the interfaces of two.
func (s *Sink) restart(start *event.Start) {
	before := s.start
	s.start = start
	if !s.begun {
		s.section()
		return
	}
	if before != nil && before.BootID == start.BootID && before.Hostname == start.Hostname {
		return
	}
	s.remark(start.Time, event.Device{}, strings.Join(append([]string{"recording of another boot"}, startComments(start)...), ", "))
	s.boot(start)
}

// section writes the section header and the known interfaces, once.
func (s *Sink) section() {
	if s.begun {
		return
	}
	s.begun = true
	start := s.start
	if start == nil {
		start = &event.Start{}
	}
	s.host = start.Hostname
	k := begin(s.buffer, blockSection)
	k.u32(byteOrderMagic)
	k.u16(1) // version 1.0
	k.u16(0)
	k.u64(1<<64 - 1) // length of the section: unknown
	for _, comment := range startComments(start) {
		k.text(optComment, comment)
	}
	k.text(shbHardware, hardware(start))
	k.text(shbOS, operatingSystem(start))
	k.text(shbApplication, strings.TrimSpace("xentrace "+start.Version))
	s.buffer = k.end()
	s.boot(start)
}

// boot begins to count anew, and describes the known interfaces.
func (s *Sink) boot(start *event.Start) {
	s.began, s.interfaces = start.Time, make(map[place]*captured)
	for i := range start.Interfaces {
		s.captured(start.Interfaces[i].Device)
	}
}

// captured returns an interface, whose description it writes at its first packet.
func (s *Sink) captured(d event.Device) *captured {
	at := place{d.Name, d.NetNS}
	if _, known := s.interfaces[at]; !known && len(s.interfaces) >= mostInterfaces {
		d = event.Device{Name: event.RestName}
		at = place{name: d.Name}
	}
	if c := s.interfaces[at]; c != nil {
		return c
	}
	c := &captured{number: s.described}
	s.described++
	s.interfaces[at] = c
	k := begin(s.buffer, blockInterface)
	k.u16(linkEthernet)
	k.u16(0)
	k.u32(0) // no limit of the length
	k.text(ifName, output.Escape(d.Name))
	description, driver := s.describe(d)
	k.text(ifDescription, description)
	k.option(ifTsresol, []byte{nanoseconds})
	k.text(ifHardware, driver)
	s.buffer = k.end()
	return c
}

// describe returns the network namespace of an interface, and its driver and MTU where
// the Start has them.
func (s *Sink) describe(d event.Device) (description, driver string) {
	description = fmt.Sprintf("netns %d", d.NetNS)
	if s.start == nil {
		return description, ""
	}
	if s.start.Hostname != s.host {
		description += ", host " + output.Escape(s.start.Hostname)
	}
	for i := range s.start.Interfaces {
		known := &s.start.Interfaces[i]
		if known.NetNS != d.NetNS || known.Index != d.Index && known.Name != d.Name {
			continue
		}
		if driver = output.Escape(known.Driver); driver != "" {
			description += ", driver " + driver
		}
		if known.MTU > 0 {
			description += fmt.Sprintf(", MTU %d", known.MTU)
		}
		break
	}
	return description, driver
}

func (s *Sink) packet(p *event.Packet) {
	c := s.captured(p.Interface)
	c.delivered++
	s.packets++
	frame := header.Of(p)
	k := begin(s.buffer, blockPacket)
	k.u32(c.number)
	k.stamp(p.Time)
	k.u32(uint32(len(frame.Bytes)))
	k.u32(uint32(frame.Len))
	k.padded(frame.Bytes)
	for _, comment := range packetComments(p, frame.Reconstructed) {
		k.text(optComment, comment)
	}
	k.option32(epbFlags, flags(p, frame.Reconstructed))
	k.option64(epbPacketID, s.packets)
	k.option32(epbQueue, uint32(p.Queue))
	if p.Process != nil {
		k.option64(epbProcess, uint64(uint32(p.Process.PID))) // thread 0: not known
	}
	s.buffer = k.end()
}

// flags are those of a packet that is sent. Only a GSO packet is known to have a checksum
// that the stack left to the driver.
func flags(p *event.Packet, reconstructed bool) uint32 {
	word := uint32(flagOutbound)
	if reconstructed || p.GSOSize > 0 {
		word |= flagChecksumNotReady
	}
	if p.GSOSize > 0 {
		word |= flagSegmentation
	}
	return word
}
