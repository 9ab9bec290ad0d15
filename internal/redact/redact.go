// Package redact replaces what identifies machines and people in events: addresses, paths of
// programs, and the names of hosts, processes, units, containers, and of interfaces that
// somebody named. One name has one replacement, so that what belongs together still does.
package redact

import (
	"iter"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"xentrace/internal/event"
)

// shortContainer is how much of a container's id its engine prints.
const shortContainer = 12

// mostSpaced bounds what every text is searched for.
const mostSpaced = 64

// A Redactor remembers replacements. Its memory is bounded. The same events in the same
// order get the same replacements from every new Redactor.
type Redactor struct {
	addresses                                     addresses
	hosts, comms, units, containers, files, boots names
	symbols, devices                              names
	spaced                                        []spaced // the longest first
}

// New returns a Redactor that has replaced nothing yet.
func New() *Redactor {
	sort := func(prefix string) names { return names{prefix: prefix, known: make(map[string]string)} }
	return &Redactor{
		addresses: addresses{
			known: make(map[netip.Addr]netip.Addr), networks: make(map[netip.Prefix]*network), counts: make(map[kind]int), macs: make(map[[6]byte][6]byte),
		},
		hosts: sort("host"), comms: sort("proc"), units: sort("unit"), containers: sort("container"), files: sort("file"), boots: sort("boot"), symbols: sort("function"), devices: sort("if"),
	}
}

// Events redacts events one by one.
func (r *Redactor) Events(events iter.Seq2[event.Event, error]) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		for e, err := range events {
			if e != nil {
				if e = r.Event(e); e == nil && err == nil {
					continue
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Event returns an event without what identifies anybody; nil for one of a type that no
// recording has. It shares nothing that it changed with e.
func (r *Redactor) Event(e event.Event) event.Event {
	switch e := e.(type) {
	case *event.Packet:
		p := r.packet(*e)
		return &p
	case *event.FlowEvent:
		return &event.FlowEvent{Time: e.Time, Flow: r.history(e.Flow)}
	case *event.Start:
		return r.start(e)
	case *event.Interval:
		return &event.Interval{Totals: r.totals(e.Totals), Explained: r.explained(e.Explained)}
	case *event.Summary:
		return r.summary(e)
	case *event.Notice:
		n := *e
		n.Device, n.Previous = r.device(n.Device), r.interfaceName(n.Previous)
		n.Evidence, n.Reason = r.text(n.Evidence), r.text(n.Reason)
		return &n
	case *event.Finding:
		f := r.finding(*e)
		return &f
	case *event.Report:
		return &event.Report{Findings: r.findings(e.Findings)}
	}
	return nil
}

func (r *Redactor) packet(p event.Packet) event.Packet {
	p.Flow, p.Inner, p.BeforeNAT = r.flow(p.Flow), r.flow(p.Inner), r.flow(p.BeforeNAT)
	p.Interface, p.Process = r.device(p.Interface), r.process(p.Process)
	if p.Sender != nil {
		sender := *p.Sender
		sender.Comm = r.comms.of(sender.Comm)
		p.Sender = &sender
	}
	p.Stack = r.stack(p.Stack)
	if len(p.Header) > 0 {
		p.Header = r.header(p.Header)
	}
	return p
}

func (r *Redactor) flow(f *event.Flow) *event.Flow {
	if f == nil {
		return nil
	}
	made := *f
	made.Source, made.Destination = r.endpoint(f.Source), r.endpoint(f.Destination)
	return &made
}

func (r *Redactor) endpoint(a netip.AddrPort) netip.AddrPort {
	if !a.IsValid() {
		return a
	}
	return netip.AddrPortFrom(r.addresses.address(a.Addr()), a.Port())
}

func (r *Redactor) process(p *event.Process) *event.Process {
	if p == nil {
		return nil
	}
	made := *p
	made.Comm, made.Unit, made.Container = r.comms.of(p.Comm), r.units.of(p.Unit), r.containers.of(p.Container)
	r.severalWords(p.Comm, made.Comm)
	if at := strings.LastIndexByte(p.Unit, '.'); at > 0 {
		r.units.also(p.Unit[:at], made.Unit)
	}
	if len(p.Container) > shortContainer {
		r.containers.also(p.Container[:shortContainer], made.Container)
	}
	return &made
}

// stack keeps the kernel's functions. Of a program's, "function+0xoffset (file)", the
// offset stays.
func (r *Redactor) stack(frames []string) []string {
	if frames == nil {
		return nil
	}
	made := make([]string, len(frames))
	for i, frame := range frames {
		at := strings.Index(frame, " (")
		if at < 0 {
			made[i] = r.frame(frame)
			continue
		}
		made[i] = r.function(frame[:at]) + " (" + r.file(strings.TrimSuffix(frame[at+len(" ("):], ")")) + ")"
	}
	return made
}

// function is "name+0xoffset" of a program, or "[unknown] 0xaddress".
func (r *Redactor) function(f string) string {
	name, offset, found := strings.Cut(f, "+0x")
	if strings.HasPrefix(f, "[unknown]") {
		return f
	}
	if found {
		offset = "+0x" + offset
	}
	return r.symbols.of(name) + offset
}

// file may have an offset behind it.
func (r *Redactor) file(f string) string {
	at := strings.LastIndex(f, "+0x")
	if at < 0 {
		return r.files.of(f)
	}
	return r.files.of(f[:at]) + f[at:]
}

// frame is of the kernel, unless it names a file.
func (r *Redactor) frame(frame string) string {
	if strings.Contains(frame, "/") {
		return r.files.of(frame)
	}
	return frame
}

func (r *Redactor) history(f event.FlowHistory) event.FlowHistory {
	f.Source, f.Destination = r.endpoint(f.Source), r.endpoint(f.Destination)
	f.Interface, f.Process = r.device(f.Interface), r.process(f.Process)
	f.Packet = r.packet(f.Packet)
	f.Layout, f.Stack, f.Advice = r.text(f.Layout), r.stack(f.Stack), r.advice(f.Advice)
	return f
}

func (r *Redactor) advice(all []event.Advice) []event.Advice {
	made := slices.Clone(all)
	for i := range made {
		a := &made[i]
		a.Command, a.Effect, a.Cost = r.command(a.Command), r.text(a.Effect), r.text(a.Cost)
	}
	return made
}

func (r *Redactor) explained(all []event.Explanation) []event.Explanation {
	made := slices.Clone(all)
	for i := range made {
		made[i].Meaning, made[i].Advice = r.text(made[i].Meaning), r.advice(made[i].Advice)
	}
	return made
}

func (r *Redactor) findings(all []event.Finding) []event.Finding {
	made := slices.Clone(all)
	for i := range made {
		made[i] = r.finding(made[i])
	}
	return made
}

func (r *Redactor) finding(f event.Finding) event.Finding {
	f.Interface = r.interfaceName(f.Interface)
	f.Message, f.Advice, f.Evidence = r.text(f.Message), r.advice(f.Advice), slices.Clone(f.Evidence)
	for i := range f.Evidence {
		if text, is := f.Evidence[i].Value.(string); is {
			f.Evidence[i].Value = r.text(text)
		}
	}
	return f
}

func (r *Redactor) start(e *event.Start) *event.Start {
	s := *e
	s.Hostname = r.hosts.of(e.Hostname)
	if short, _, is := strings.Cut(e.Hostname, "."); is {
		r.hosts.also(short, s.Hostname)
	}
	s.BootID = r.boots.of(e.BootID)
	s.Command = r.arguments(e.Command)
	s.Interfaces = slices.Clone(e.Interfaces)
	for i := range s.Interfaces {
		s.Interfaces[i].Device = r.device(s.Interfaces[i].Device)
	}
	s.Check = r.findings(e.Check)
	return &s
}

var (
	longFlag  = regexp.MustCompile(`^--[a-z][a-z0-9.-]*$`)
	number    = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?([num]?s|[mhdkMGT]|[kMG]?i?B)?$`)
	ownBinary = regexp.MustCompile(`^xentrace(-exporter)?$`)
	subject   = regexp.MustCompile(`^[a-z]+$`)
)

// arguments keeps the program, the command, flags, numbers and durations. Paths, filters
// and whatever else a user wrote go.
func (r *Redactor) arguments(all []string) []string {
	made := slices.Clone(all)
	for i, a := range made {
		switch {
		case i == 0 && ownBinary.MatchString(path.Base(a)):
			made[i] = path.Base(a)
		case i == 1 && subject.MatchString(a), i > 0 && number.MatchString(a):
		case i > 0 && strings.HasPrefix(a, "-"):
			made[i] = flagOf(a)
		default:
			made[i] = "..."
		}
	}
	return made
}

// flagOf is a flag with its value, if it has one, replaced: --name=value, --name value or
// -nvalue.
func flagOf(a string) string {
	end := strings.IndexAny(a, "= ")
	if end < 0 && longFlag.MatchString(a) || len(a) == 2 {
		return a
	}
	if end > 0 && (longFlag.MatchString(a[:end]) || end == 2) {
		return a[:end+1] + "..."
	}
	return a[:min(2, len(a))] + "..."
}

func (r *Redactor) totals(t event.Totals) event.Totals {
	t.Interfaces = slices.Clone(t.Interfaces)
	for i := range t.Interfaces {
		t.Interfaces[i].Device = r.device(t.Interfaces[i].Device)
	}
	missing := make(map[string]string, len(t.Missing))
	for key, why := range t.Missing {
		missing[key] = r.text(why)
	}
	if t.Missing != nil {
		t.Missing = missing
	}
	return t
}

func (r *Redactor) summary(e *event.Summary) *event.Summary {
	s := &event.Summary{Totals: r.totals(e.Totals), Explained: r.explained(e.Explained), Filter: r.filter(e.Filter), LeftOut: e.LeftOut}
	if e.Flows != nil {
		flows := *e.Flows
		flows.Flows = slices.Clone(flows.Flows)
		for i := range flows.Flows {
			flows.Flows[i] = r.history(flows.Flows[i])
		}
		s.Flows = &flows
	}
	return s
}

// filter is of flags with values, and of expressions.
func (r *Redactor) filter(flags []string) []string {
	made := slices.Clone(flags)
	for i, f := range made {
		if made[i] = "..."; strings.HasPrefix(f, "-") {
			made[i] = flagOf(f)
		}
	}
	return made
}
