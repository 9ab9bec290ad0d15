package netns

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/output"
	"xentrace/test/rocket"
	"xentrace/test/tool"
)

const (
	stormEvents = 1_000_000
	stormCopies = 125 // of each rocket
	stormPause  = time.Second
	stormBehind = 100_000 // events that no default ring has room for
)

// A storm is an interface on which each rocket of a sender goes out many times:
// a classifier on another interface, which the rocket is sent to, clones it, as
// a port mirror does. The clones are packets like any other.
type storm struct {
	l      *lab
	sender *rocket.UDP
	sent   int
}

func newStorm(t *testing.T) *storm {
	t.Helper()
	l := newLab(t)
	feed := l.route("feed", "10.98.5.1/24", "10.98.5.2/24")
	l.awaitSilence()
	classify(t, "feed", cloneTo(indexOf(t, "near"), stormCopies))
	return &storm{l: l, sender: feed.sender}
}

func indexOf(t *testing.T, name string) int {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	return link.Attrs().Index
}

// cloneTo sends clones of each packet out of an interface, and drops the packet.
func cloneTo(ifindex, copies int) asm.Instructions {
	p := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	for range copies {
		p = append(p, asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, int32(ifindex)), asm.Mov.Imm(asm.R3, 0), asm.FnCloneRedirect.Call())
	}
	return append(p, asm.Mov.Imm(asm.R0, 2 /* TC_ACT_SHOT */), asm.Return())
}

// blow sends until so many packets over the limit have been sent in all.
func (s *storm) blow(until int) {
	s.l.t.Helper()
	for s.sent < until {
		_, err := s.sender.Send(s.l.t.Context())
		must(s.l.t, err)
		s.sent += stormCopies
	}
}

// A reader that is stopped for a second, in a storm of a million events: every
// packet is counted, and every record is either written or counted as lost.
func TestStormOfAMillionEvents(t *testing.T) {
	s := newStorm(t)
	base := transmitted(t, s.l.near)
	watch, written := startCounted(t, "watch", "-i", "near", "-o", "json")
	s.blow(stormEvents / 4)
	watch.signal(unix.SIGSTOP)
	before := s.sent
	for began := time.Now(); time.Since(began) < stormPause || s.sent < before+stormBehind; {
		s.blow(s.sent + 1)
	}
	watch.signal(unix.SIGCONT)
	if s.sent > stormEvents {
		t.Logf("%d events before the reader went on", s.sent)
	}
	s.blow(stormEvents)
	watch.stop()
	output := <-written
	i := output.summary.Interfaces[0]
	sent := uint64(s.sent)
	if counted := transmitted(t, s.l.near) - base; i.Packets != sent || i.OverLimit != sent || i.Counted() != sent || counted != sent {
		t.Errorf("%d packets, %d over the limit, %d in the histogram, %d counted by the interface: sent %d",
			i.Packets, i.OverLimit, i.Counted(), counted, sent)
	}
	lost := output.summary.Lost.Ring
	if output.records != output.summary.Events || output.records+lost != sent || lost == 0 {
		t.Errorf("%d records written, %d events, %d lost: want %d in all, and some lost", output.records, output.summary.Events, lost, sent)
	}
	if output.wrong != 0 {
		t.Errorf("%d records are not of the rocket that was sent", output.wrong)
	}
	t.Logf("%d sent, %d written, %d lost in the ring; the program took %v of CPU time", sent, output.records, lost,
		watch.cmd.ProcessState.UserTime()+watch.cmd.ProcessState.SystemTime())
}

// counted is what a program wrote, too much to keep.
type counted struct {
	records uint64
	wrong   uint64 // records that are not as expected
	summary tool.Summary
}

// startCounted starts xentrace and counts the lines that it writes.
func startCounted(t *testing.T, args ...string) (*program, <-chan counted) {
	t.Helper()
	read, write, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(xentrace, args...)
	cmd.Stdout = write
	result := make(chan counted, 1)
	go func() {
		defer read.Close()
		result <- countLines(t, read)
	}()
	p := startWith(t, cmd)
	must(t, write.Close())
	return p, result
}

func countLines(t *testing.T, r io.Reader) (c counted) {
	flow := []byte(`"verdict":"over_limit","cause":null,`)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var last string
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte(`{"type":"packet"`)) {
			c.records++
			if !bytes.Contains(lines.Bytes(), flow) || !bytes.Contains(lines.Bytes(), []byte(`"daddr":"10.98.5.2"`)) {
				c.wrong++
			}
			continue
		}
		last = lines.Text()
	}
	if lines.Err() != nil || last == "" {
		t.Errorf("output: %v, last line %q", lines.Err(), last)
		return c
	}
	c.summary = summaryOf(t, last)
	return c
}

// What the ring lost is reported to who reads the text, too.
func TestTextTellsOfLosses(t *testing.T) {
	s := newStorm(t)
	watch := start(t, "watch", "-i", "near", "--ring-size", "64KiB")
	watch.signal(unix.SIGSTOP)
	s.blow(10_000)
	watch.signal(unix.SIGCONT)
	watch.stop()
	text := watch.stdout.String()
	records := strings.Count(text, " over_limit ")
	lost := s.sent - records
	closing := lastLine(text)
	want := fmt.Sprintf("%s packets seen, %s events, %s lost (ring %s, recursion 0, missed 0)", grouped(s.sent), grouped(records), grouped(lost), grouped(lost))
	if closing != want || lost < 9_000 {
		t.Errorf("closing line %q, want %q", closing, want)
	}
}

func grouped(n int) string { return output.Grouped(uint64(n)) }
