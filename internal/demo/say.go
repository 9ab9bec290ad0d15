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
			return err
		}
	}
	return nil
}

func (d *demonstration) introduce() error {
	return d.say(
		fmt.Sprintf("This takes about 15 s. It runs in two network namespaces of its own, connected by a veth pair (%s, %s). Nothing else on this machine changes, and nothing is left behind.", nearName, farName),
		"",
		fmt.Sprintf("xen-netfront needs one TX ring slot for each 4 KiB page that a packet touches, and accepts at most %d slots per packet. Bulk data needs few. A program that writes a few bytes at a time can spread 1,000 bytes over more pages than that.", slots.Limit),
		"",
		fmt.Sprintf("The demo sends %d such packets over UDP and TCP, mixed with ordinary ones. %s is not a Xen interface and sends them all: xentrace reports \"over_limit\" where xen-netfront would drop or linearize.", watched, nearName),
	)
}

// judge reports what a Xen frontend would have done to the packets of the first part.
func (d *demonstration) judge(p *part) error {
	counts := p.interfaceTotals()
	several := counts.Packets - counts.Slots[1]
	judgements := []struct{ frontend, fate string }{
		{"Linux 3.7 to 3.16", fmt.Sprintf("drops each of the %d. TCP retransmits the same packet, which is dropped again: the connection is stalled.", counts.OverLimit)},
		{"Linux 3.17 and newer", fmt.Sprintf("linearizes each of the %d: copies it into one linear buffer and sends that. Drops it only if there is no memory for the copy.", counts.OverLimit)},
		{"with scatter-gather off", fmt.Sprintf("drops packets that need 2 slots or more. %d of these %d packets do. The stack linearizes them first, but a linear part can also straddle a page boundary.", several, counts.Packets)},
	}
	if err := d.say("", "What xen-netfront would have done with these packets:"); err != nil {
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
	return d.say("", "Now the histogram: more packets, of all sizes. They are counted in the kernel; no records are made.")
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
	return d.say("All counts are equal. The demo's network is removed. On a Xen guest, start with: xentrace watch")
}
