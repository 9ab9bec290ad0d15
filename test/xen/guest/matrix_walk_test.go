//go:build xenlab && matrix

package guest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"xentrace/test/tool"
	"xentrace/test/xen/cell"
)

// ordinaryPort takes the ordinary datagrams between those that go wrong.
const ordinaryPort = 7032

// A row says how packets are made to walk a path, and what must come of them.
type row struct {
	path string
	port int // that its packets go to
	// prepare brings the interface into the state that the path wants, and
	// returns how to put it back.
	prepare func(t *testing.T) (undo func())
	// send sends the packets among ordinary ones, and returns what it sent.
	send func(t *testing.T, r *row) sent

	verdict, cause string // what xentrace must say; verdict empty for nothing
	// unreported: counted by xentrace and not reported one by one.
	unreported bool
	// impossible returns why the path cannot be walked here, empty if it can.
	impossible func(t *testing.T) string
}

// sent is what was sent for a row.
type sent struct {
	path, ordinary uint64 // datagrams to the row's port, and the ordinary ones
	struck         uint64 // how many of the former take the path; 0 if it shows only afterwards
	unseen         bool   // what goes to the row's port is nothing that the peer counts
}

// A walk is a row that was walked, with what was seen of it.
type walk struct {
	*row
	why            string // it could not be
	missing        string // why xentrace says that it cannot see the path's packets
	sent           sent
	moved          interfaceCounters
	path, ordinary uint64 // arrived at the peer
	records        []*tool.Packet
	said           map[string]uint64
}

// walk sends a row's packets, and takes down what the interface, the peer and the
// counter of copies report it.
func (r *row) walk(t *testing.T) *walk {
	t.Helper()
	w := &walk{row: r, said: map[string]uint64{}}
	if r.impossible != nil {
		if w.why = r.impossible(t); w.why != "" {
			return w
		}
	}
	began := time.Now()
	ask(t, "reset")
	undo := func() {}
	if r.prepare != nil {
		quiet(t) // what ends the connection to the peer is not to be dropped
		undo = r.prepare(t)
	}
	quiet(t)
	before := counters(t)
	w.sent = r.send(t, r)
	quiet(t)
	w.moved = counters(t).since(before)
	undo()
	w.path = arrived(t, r.port, w.sent.path-w.lost())
	w.ordinary = arrived(t, ordinaryPort, w.sent.ordinary)
	t.Logf("%s walked in %v", r.path, time.Since(began).Round(time.Millisecond))
	return w
}

// arrived waits a while until the peer has that many datagrams on a port, and
// returns how many it has then.
func arrived(t *testing.T, port int, datagrams uint64) uint64 {
	t.Helper()
	var n uint64
	for range 300 {
		if n = ask(t, "counts").Sink("udp", "ipv4", port).Datagrams; n >= datagrams {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return n
}

// lost is how many of the row's packets cannot arrive.
func (w *walk) lost() uint64 {
	switch w.verdict {
	case "dropped":
		return w.moved.dropped
	case "rejected":
		return w.sent.struck
	}
	return 0
}

// attribute gives each record to the row whose packets it reports. Another one is
// false, unless it is of a bounce that shows by itself why it was one; how many
// bounces there were is checked for the run as a whole.
func attribute(t *testing.T, s *cell.Session, walks []*walk, records []tool.Packet) {
	t.Helper()
	for i := range records {
		p := &records[i]
		own := false
		for _, w := range walks {
			if w.why != "" || p.Flow == nil || p.Flow.Dport != w.port {
				continue
			}
			if w.verdict == "bounced" || !shortHead(p) {
				w.records = append(w.records, p)
				w.said[strings.TrimSpace(p.Verdict+" "+text(p.Cause))]++
			}
			own = true
		}
		if !own && !shortHead(p) {
			s.FalseRecords++
			t.Logf("of no row: %s", p)
		}
	}
}

// shortHead: heads of ordinary packets, too, may begin so close to a page's end that
// the driver copies them.
func shortHead(p *tool.Packet) bool {
	return p.Verdict == "bounced" && p.HeadOffset%4096 > 4096-14
}

// judge compares all that was seen of a row.
func (w *walk) judge(t *testing.T, backend string, faults []string) *judgement {
	t.Helper()
	v := &judgement{Cell: newCell(t, w.row.path, backend)}
	if w.why != "" {
		v.Status, v.Why = cell.Impossible, w.why
		return v
	}
	for _, fault := range faults {
		v.wrong("%s", fault)
	}
	v.Sent = cell.Traffic{Path: w.sent.path, Ordinary: w.sent.ordinary}
	v.Arrived = cell.Traffic{Path: w.path, Ordinary: w.ordinary}
	v.TxPackets, v.TxDropped = w.moved.packets, w.moved.dropped
	v.Said = w.said
	v.Struck = w.struck()
	w.judgeRecords(t, v)
	w.judgeCounters(v)
	if w.missing != "" && len(v.faults) == 0 {
		v.Status, v.Why = cell.Impossible, fmt.Sprintf("xentrace reports that it cannot see them: %s", w.missing)
	}
	return v
}

// struck is how many packets took the path, by another witness than xentrace.
func (w *walk) struck() uint64 {
	switch {
	case w.verdict == "dropped":
		return w.moved.dropped
	case w.verdict == "bounced":
		return w.moved.copies
	}
	return w.sent.struck
}

// judgeRecords compares what xentrace said with what happened.
func (w *walk) judgeRecords(t *testing.T, v *judgement) {
	t.Helper()
	want, cause := w.verdict, w.cause
	want = strings.TrimSpace(want + " " + cause)
	count := v.Struck
	if w.unreported || w.missing != "" {
		count = 0
	}
	if got := w.said[want]; want != "" && got != count {
		v.wrong("%d records say %q, want %d", got, want, count)
	}
	if n := uint64(len(w.records)); n != count {
		v.wrong("%d records, want %d: %v", n, count, w.said)
	}
	for _, p := range w.records {
		if p.Slots != p.SlotsOfParts() || p.Ifname != ifname || p.Limit != limit {
			v.wrong("a record of %d slots whose parts make %d: %s", p.Slots, p.SlotsOfParts(), p)
			break
		}
	}
}

// judgeCounters compares what was sent with what the interface and the peer counted.
func (w *walk) judgeCounters(v *judgement) {
	if w.verdict != "" && v.Struck < leastStruck {
		v.wrong("%d packets took the path, want at least %d", v.Struck, leastStruck)
	}
	if w.sent.struck != 0 && v.Struck != w.sent.struck {
		v.wrong("%d packets took the path, of %d that were to", v.Struck, w.sent.struck)
	}
	var dropped uint64
	if w.verdict == "dropped" {
		dropped = v.Struck
	}
	if v.TxDropped != dropped {
		v.wrong("tx_dropped moved by %d, want %d", v.TxDropped, dropped)
	}
	if sum := v.TxPackets + v.TxDropped; sum < v.Sent.Path+v.Sent.Ordinary {
		v.wrong("the interface counted %d packets, %d were sent", sum, v.Sent.Path+v.Sent.Ordinary)
	}
	if want := v.Sent.Path - w.lost(); !w.sent.unseen && v.Arrived.Path != want {
		v.wrong("%d of the path's packets arrived, want %d of %d", v.Arrived.Path, want, v.Sent.Path)
	}
	if v.Arrived.Ordinary != v.Sent.Ordinary {
		v.wrong("%d ordinary packets arrived, want all %d", v.Arrived.Ordinary, v.Sent.Ordinary)
	}
}

// leastStruck is how many packets must take a path for its cell to say anything.
const leastStruck = 8

// A judgement is a cell in the making.
type judgement struct {
	cell.Cell
	faults []string
}

func (v *judgement) wrong(format string, values ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, values...))
}

// report writes the cell, and fails the test if it is red.
func (v *judgement) report(t *testing.T) {
	t.Helper()
	if v.Status == "" {
		v.Status = cell.Agrees
	}
	if len(v.faults) > 0 {
		v.Status, v.Why = cell.Red, strings.Join(v.faults, "; ")
		t.Errorf("%s: %s", v.Path, v.Why)
	}
	write(t, v.Cell)
}

// interfaceCounters are those of the interface that the driver moves, and the bounce
// copies that it made.
type interfaceCounters struct{ packets, dropped, copies uint64 }

func counters(t *testing.T) interfaceCounters {
	t.Helper()
	return interfaceCounters{counter(t, "tx_packets"), counter(t, "tx_dropped"), copies(t)}
}

func (c interfaceCounters) since(before interfaceCounters) interfaceCounters {
	return interfaceCounters{c.packets - before.packets, c.dropped - before.dropped, c.copies - before.copies}
}

// quiet waits until the interface has sent nothing for a while.
func quiet(t *testing.T) {
	t.Helper()
	last := counters(t)
	for still := 0; still < 3; {
		time.Sleep(50 * time.Millisecond)
		now := counters(t)
		if now == last {
			still++
		} else {
			still, last = 0, now
		}
	}
}
