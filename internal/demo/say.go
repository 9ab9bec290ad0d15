package demo

import (
	"errors"
	"fmt"
	"io"

	"xentrace/internal/output"
	"xentrace/internal/slots"
)

const (
	widest     = 100 // columns
	indentFate = 4
)

// say writes paragraphs; "" is an empty line.
func (d *demonstration) say(paragraphs ...string) error {
	return d.write(0, paragraphs...)
}

func (d *demonstration) write(indent int, paragraphs ...string) error {
	for _, p := range paragraphs {
		text := "\n"
		if p != "" {
			text = output.Paragraph(p, indent, min(d.Width(), widest))
		}
		if _, err := io.WriteString(d.Out, text); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
	}
	return nil
}

func (d *demonstration) introduce() error {
	return d.say(
		fmt.Sprintf("About 15 seconds, in two network namespaces of its own, joined by a veth pair, %s and %s. Nothing else on this machine changes, and nothing is left behind.", nearName, farName),
		"",
		fmt.Sprintf("A Xen frontend puts a packet on its TX ring in slots, one for each 4 KiB page that the packet's data touches, and accepts at most %d. Bulk data needs few. A program that writes a few bytes at a time can spread a packet of 1,000 bytes over more pages than that.", slots.Limit),
		"",
		fmt.Sprintf("The demo now sends %d such packets over UDP and TCP, among ordinary ones. %s is no Xen interface and sends them all: xentrace reports \"over_limit\" where a Xen frontend would drop or linearize.", watched, nearName),
	)
}

// judge reports what a Xen frontend would have done to the packets of the first part.
func (d *demonstration) judge(p *part) error {
	counts := p.interfaceTotals()
	several := counts.Packets - counts.Slots[1]
	judgements := []struct{ frontend, fate string }{
		{"Linux 3.7 to 3.16", fmt.Sprintf("drops each of the %d. TCP retransmits the same packet, which is dropped again: the connection is stalled.", counts.OverLimit)},
		{"Linux 3.17 and newer", fmt.Sprintf("linearizes each of the %d: copies it into one linear buffer and sends that. It drops the packet if no memory is free for the copy.", counts.OverLimit)},
		{"with scatter-gather off", fmt.Sprintf("drops each packet that reaches the driver with 2 slots or more. %d of these %d packets need that many; the stack linearizes each first, but the linear part can straddle a page boundary, too.", several, counts.Packets)},
	}
	if err := d.say("", "What a Xen frontend would have done to these packets:"); err != nil {
		return err
	}
	for _, j := range judgements {
		if err := d.write(2, j.frontend); err != nil {
			return err
		}
		if err := d.write(indentFate, j.fate); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) announceCount() error {
	return d.say("", "Now the histogram: more packets, of all sizes. The BPF program only counts them and makes no records.")
}

// compare prints what was sent and what was reported. It is an error if they differ.
func (d *demonstration) compare(first, second *part) error {
	a, b := first.interfaceTotals(), second.interfaceTotals()
	lost := first.totals.Lost.Ring
	agree := a.OverLimit == first.sent.overLimit && b.OverLimit == second.sent.overLimit &&
		first.totals.Events+lost == first.sent.overLimit &&
		a.Packets == first.transmitted && b.Packets == second.transmitted
	err := d.say("", "Sent and reported:",
		fmt.Sprintf("- watch: %d packets over the limit sent (%d UDP, %d TCP); %d counted, %d records, %d lost.",
			first.sent.overLimit, first.sent.udp, first.sent.tcp, a.OverLimit, first.totals.Events, lost),
		fmt.Sprintf("- hist: %d packets over the limit sent (%d UDP, %d TCP); %d counted.",
			second.sent.overLimit, second.sent.udp, second.sent.tcp, b.OverLimit),
		fmt.Sprintf("- all packets: %d and %d by %s's own counter; %d and %d counted.",
			first.transmitted, second.transmitted, nearName, a.Packets, b.Packets))
	if err != nil {
		return err
	}
	if !agree {
		return errors.New("counts of packets sent and reported differ")
	}
	return d.say("They are equal. The demo's network is removed. On a Xen guest, start with: xentrace watch")
}
