package check

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
	"xentrace/internal/slots"
	"xentrace/internal/verdict"
)

type straddling uint8

const (
	straddleUnknown straddling = iota
	straddleNever
	straddleSome
)

func (m *Machine) straddling() straddling {
	switch {
	case m.Slab.Missing != "":
		return straddleUnknown
	case m.Slab.Value.Crossing() == 0:
		return straddleNever
	default:
		return straddleSome
	}
}

type scatterGatherCase struct {
	drops     bool // the driver drops packets over the limit
	straddles straddling
}

var scatterGatherRules = map[scatterGatherCase]struct {
	status  event.Status
	message string // {some} stands for the share
}{
	{false, straddleSome}:    {event.Fail, "Scatter-gather is off, so packets of 2 slots are dropped. On this kernel these include small packets whose head straddles a page boundary: {some}. The slab reuses the last object first, so drops come in runs."},
	{true, straddleSome}:     {event.Fail, "Scatter-gather is off. That keeps packets over 18 slots away from this driver, which would drop them, but small packets whose head straddles a page boundary are dropped instead: {some}. The slab reuses the last object first, so drops come in runs."},
	{false, straddleNever}:   {event.Warn, "Scatter-gather is off. On this kernel the machine's own packets still fit 1 slot; forwarded packets that straddle a page boundary are dropped, and sending uses more CPU."},
	{true, straddleNever}:    {event.Warn, "Scatter-gather is off, which keeps packets over 18 slots away from this driver, which would drop them. Forwarded packets that straddle a page boundary are dropped, and sending uses more CPU."},
	{false, straddleUnknown}: {event.Warn, "Scatter-gather is off, so packets of 2 slots are dropped. Whether small packets need 2 slots on this kernel is unknown: {missing}."},
	{true, straddleUnknown}:  {event.Warn, "Scatter-gather is off, which keeps packets over 18 slots away from this driver, which would drop them. Whether small packets need 2 slots on this kernel, and are dropped, is unknown: {missing}."},
}

func (m *Machine) scatterGather(i *Interface) event.Finding {
	f := about(i, ScatterGather)
	if i.Features.Missing != "" {
		f.Status, f.Message = event.Unknown, "Scatter-gather is unknown: "+i.Features.Missing+"."
		return f
	}
	sg := i.Features.Value.ScatterGather
	f.Evidence = append([]event.Fact{{Key: "on", Value: sg.Active}, {Key: "requested", Value: sg.Requested}}, m.slabEvidence()...)
	drops := m.Code.linearizes() == netfront.Drops
	switch {
	case sg.Active:
		f.Message = "Scatter-gather is on: packets of up to 18 slots are sent as they are."
		if m.straddling() == straddleSome {
			f.Message += " Leave it on: without it this kernel drops small packets whose head straddles a page boundary: " + m.some() + "."
		}
	default:
		f.Status, f.Message = m.scatterGatherOff(drops)
		f.Advice = m.advise(i, scatterGatherRemedies(drops)...)
		if !sg.Requested {
			m.setBy(&f, i, "sg")
		}
	}
	observed(&f, i)
	return f
}

func (m *Machine) scatterGatherOff(drops bool) (event.Status, string) {
	rule := scatterGatherRules[scatterGatherCase{drops, m.straddling()}]
	return rule.status, strings.NewReplacer("{some}", m.some(), "{missing}", m.Slab.Missing).Replace(rule.message)
}

func scatterGatherRemedies(drops bool) []remedy.ID {
	if drops {
		return []remedy.ID{remedy.UpdateKernel, remedy.SGBackend}
	}
	return verdict.OfCause(event.SGOff).Remedies
}

// some is how many small heads straddle a page boundary: a share of objects, not of packets, since
// the slab reuses the last freed object first.
func (m *Machine) some() string {
	if m.straddling() != straddleSome {
		return ""
	}
	s := m.Slab.Value
	return fmt.Sprintf("%d of %d objects of %d bytes", s.Crossing(), s.Objects, s.Bytes)
}

func (m *Machine) slabEvidence() []event.Fact {
	fact := func(n int) any { return Known[int]{n, m.Slab.Missing}.fact() }
	s := m.Slab.Value
	return []event.Fact{{Key: "small_head_bytes", Value: fact(s.Bytes)}, {Key: "small_heads_in_slab", Value: fact(s.Objects)}, {Key: "small_heads_crossing", Value: fact(s.Crossing())}}
}

func observed(f *event.Finding, i *Interface) {
	o := i.Observed
	if o == nil {
		return
	}
	if o.Missing != "" {
		f.Message += " Not observed: " + o.Missing + "."
		f.Evidence = append(f.Evidence, event.Fact{Key: "observed_packets", Value: nil})
		return
	}
	lost, packets := o.Totals.Causes[event.SGOff], o.Totals.Packets
	bounced, oneSlot := o.Totals.Bounced, o.Totals.Slots[1]
	f.Evidence = append(f.Evidence, event.Fact{Key: "observed_ms", Value: o.Duration.Milliseconds()}, event.Fact{Key: "observed_packets", Value: packets},
		event.Fact{Key: "observed_one_slot", Value: oneSlot}, event.Fact{Key: "observed_sg_off", Value: lost}, event.Fact{Key: "observed_bounced", Value: bounced})
	for _, feature := range f.Evidence {
		if feature.Key == "on" && feature.Value == true {
			f.Message += fmt.Sprintf(" In %.1f s, %d of %d packets certainly did not straddle (1 slot); %d were bounced because of where their head starts.", o.Duration.Seconds(), oneSlot, packets, bounced)
			return
		}
	}
	f.Message += fmt.Sprintf(" In %.1f s, %d of %d packets straddled a page boundary and were dropped.", o.Duration.Seconds(), lost, packets)
	if lost > 0 {
		f.Status = event.Fail
	}
}

// smallHeads is the cache of the heads of small packets, from Linux 6.3 on.
// Before, they came from kmalloc, whose sizes are powers of two and whose objects
// do not cross pages.
const smallHeads = "skbuff_small_head"

// A Slab is the geometry of that cache. It depends on the kernel's configuration and on
// the number of CPUs.
type Slab struct {
	Bytes   int // from one object to the next; 0 if the kernel has no such cache
	Objects int // in one slab, which begins with a page
	Tail    int // bytes at the end of an object that hold nothing of the packet; 0 if not known
}

// Crossing is how many objects of a slab have the end of a page within the room for
// a packet. A packet in such an object straddles it if its own bytes lie on both
// sides.
func (s Slab) Crossing() int {
	crossing := 0
	for n := range s.Objects {
		first, last := n*s.Bytes, (n+1)*s.Bytes-s.Tail-1
		if first/slots.PageSize != last/slots.PageSize {
			crossing++
		}
	}
	return crossing
}

// readSlab reads the geometry. Whether the cache is there shows without root.
func (r *reader) readSlab() Known[Slab] {
	const caches = "sys/kernel/slab"
	if !r.exists(caches + "/kmalloc-64") { // a kernel without this view of its caches
		return r.readSlabinfo()
	}
	directory := caches + "/" + smallHeads
	if !r.exists(directory) {
		return known(Slab{})
	}
	bytes, objects := r.number(directory+"/slab_size"), r.number(directory+"/objs_per_slab")
	if reason := cmp.Or(bytes.Missing, objects.Missing); reason != "" {
		return missing[Slab](reason)
	}
	return known(Slab{Bytes: bytes.Value, Objects: objects.Value})
}

func (r *reader) readSlabinfo() Known[Slab] {
	content, err := r.read("proc/slabinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return missing[Slab]("this kernel shows no caches (/sys/kernel/slab, /proc/slabinfo)")
	}
	if err != nil {
		return missing[Slab](why(err))
	}
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[0] != smallHeads {
			continue
		}
		bytes, errBytes := strconv.Atoi(fields[3])
		objects, errObjects := strconv.Atoi(fields[4])
		if errBytes != nil || errObjects != nil {
			return missing[Slab](fmt.Sprintf("/proc/slabinfo: line %q is not understood", strings.TrimSpace(line)))
		}
		return known(Slab{Bytes: bytes, Objects: objects})
	}
	return known(Slab{})
}
