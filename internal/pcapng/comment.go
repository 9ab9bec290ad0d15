package pcapng

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// packetComments are what a person reads of a packet. packaging/xentrace.lua parses the
// first: verdict, cause, slots, and the owner last, whose name may hold anything.
func packetComments(p *event.Packet, reconstructed bool) []string {
	first := p.Verdict.String()
	switch {
	case p.Layer == event.LayerElsewhere:
		first += " " + p.Layer.String()
	case p.Cause != event.CauseNone:
		first += ": " + p.Cause.String()
	}
	first += fmt.Sprintf(", %d/%d slots", p.Slots, p.Limit)
	if p.Process != nil {
		first += fmt.Sprintf(", %s[%d]", output.Escape(p.Process.Comm), p.Process.PID)
	}
	comments := []string{first}
	if p.Layer == event.LayerElsewhere {
		if where := output.Where(p); where != "" {
			comments = append(comments, "drop reason: "+where)
		}
	}
	if p.Inner != nil {
		comments = append(comments, "inner flow: "+output.Endpoints(p.Inner.Proto, p.Inner.Source, p.Inner.Destination))
	}
	if nat := p.BeforeNAT; nat != nil {
		comments = append(comments, "before NAT: "+output.Endpoints(nat.Proto, nat.Source, nat.Destination))
	}
	if reconstructed {
		comments = append(comments, reconstruction(p))
	}
	return comments
}

func reconstruction(p *event.Packet) string {
	if p.Flow == nil {
		return "header reconstructed: only the length and EtherType are the packet's"
	}
	return "header reconstructed: only the length, addresses, ports and sequence number are the packet's"
}

// startComments are what is known of the recording and its machine.
func startComments(s *event.Start) []string {
	var comments []string
	add := func(what, value string) {
		if value != "" {
			comments = append(comments, what+": "+output.Escape(value))
		}
	}
	add("host", s.Hostname)
	add("boot id", s.BootID)
	add("command", strings.Join(s.Command, " "))
	for i := range s.Check {
		f := &s.Check[i]
		if f.Status < event.Warn {
			continue
		}
		where := ""
		if f.Interface != "" {
			where = " " + f.Interface
		}
		add("check", fmt.Sprintf("%s %s%s: %s", f.Status, f.ID, where, f.Message))
	}
	return comments
}

func hardware(s *event.Start) string {
	text := s.Machine
	if s.Xen != nil {
		text = strings.TrimSpace(text + " Xen " + strings.TrimSpace(s.Xen.Version+" "+s.Xen.Type))
	}
	return output.Escape(text)
}

func operatingSystem(s *event.Start) string {
	if s.Kernel == "" {
		return ""
	}
	return output.Escape("Linux " + s.Kernel)
}
