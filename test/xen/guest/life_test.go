//go:build xenlab

package guest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/tool"
	"xentrace/test/xen/peer/counts"
)

const lifePort = 7012

// total is what an interface has counted.
type total struct{ packets, dropped uint64 }

// place is where the lab's interface is.
type place struct {
	name  string
	netns string // as ip netns calls it; empty for the guest's own
}

// total reads the interface's own counters; false if it is not there.
func (p place) total() (total, bool) {
	packets, err := p.counter("tx_packets")
	dropped, err2 := p.counter("tx_dropped")
	return total{packets, dropped}, errors.Join(err, err2) == nil
}

func (p place) counter(name string) (uint64, error) {
	path := "/sys/class/net/" + p.name + "/statistics/" + name
	text, err := os.ReadFile(path)
	if p.netns != "" {
		text, err = exec.Command("ip", "netns", "exec", p.netns, "cat", path).Output()
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// in runs f on a thread that is in the interface's network namespace. Sockets that it
// makes stay there.
func (p place) in(t *testing.T, f func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good if it moves: the thread then ends with it
		if p.netns != "" {
			file, err := os.Open("/run/netns/" + p.netns)
			if err == nil {
				err = errors.Join(unix.Setns(int(file.Fd()), unix.CLONE_NEWNET), file.Close())
			}
			if err != nil {
				result <- err
				return
			}
		} else {
			defer runtime.UnlockOSThread()
		}
		result <- f()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// life is a run of the tracer, and what the driver's interfaces counted meanwhile, one
// after the other.
type life struct {
	t       *testing.T
	backend string
	drops   bool // this driver drops rockets; others linearize them
	run     *tool.Run
	at      place

	begin      total  // of the present interface
	sum        total  // of those that are gone
	dropped    uint64 // rockets
	linearized uint64
	began      time.Time

	early        uint64 // packets that went out before the counters were read and may have been counted
	vanished     bool   // the network core may have dropped, and counted, what came while an interface was removed or down
	disconnected bool   // what is sent while the frontend has no backend is dropped for no_carrier
}

// beginLife starts the tracer, with more arguments, next to the lab's interface.
func beginLife(t *testing.T, backend string, more ...string) *life {
	t.Helper()
	l := &life{t: t, backend: backend, drops: env(t, "XENTRACE_LAB_DRIVER") == "prefix", at: place{name: ifname}}
	before := l.total().packets
	l.run = tool.Start(t, append([]string{program(t), "watch", "-o", "json", "--backend", backend}, more...)...)
	time.Sleep(settle)
	l.began = time.Now()
	l.begin = l.total()
	l.early = l.begin.packets - before
	return l
}

func (l *life) total() total {
	l.t.Helper()
	now, there := l.at.total()
	if !there {
		l.t.Fatalf("interface %+v is not there", l.at)
	}
	return now
}

// traffic sends rockets among ordinary packets, one after the other.
func (l *life) traffic(rockets, ordinary int) {
	l.t.Helper()
	to := netip.AddrPortFrom(peerAddr(l.t, "ipv4"), lifePort)
	l.at.in(l.t, func() error { return sendMixed(l.t.Context(), to, rockets, ordinary/rockets) })
	if l.drops {
		l.dropped += uint64(rockets)
	} else {
		l.linearized += uint64(rockets)
	}
}

// reported waits until there is a record of every packet of the traffic that is to have one.
func (l *life) reported() {
	l.t.Helper()
	if l.drops {
		l.run.Tells(`"verdict":"dropped"`, int(l.dropped))
		return
	}
	l.run.Tells(`"verdict":"linearized"`, int(l.linearized))
}

// ended notes what the present interface has counted in all.
func (l *life) ended(final total) {
	l.sum.packets += final.packets - l.begin.packets
	l.sum.dropped += final.dropped - l.begin.dropped
	l.begin = total{} // the next one begins with nothing
}

// vanishes waits until the interface is gone, whose last counters then count.
func (l *life) vanishes() {
	l.t.Helper()
	l.vanished = true
	last := l.total()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		now, there := l.at.total()
		if !there {
			break
		}
		last = now
		if time.Since(began) > 2*time.Minute {
			l.t.Fatalf("interface %+v did not go", l.at)
		}
	}
	l.ended(last)
}

// end stops the tracer and compares: every packet counted once, every drop too.
// unseen is how many packets there may be that nothing could count. What the kernel sends
// by itself while the tracer starts and ends is either counted or not.
func (l *life) end(unseen uint64) tool.Output {
	l.t.Helper()
	time.Sleep(settle)
	last := l.total()
	l.ended(last)
	output := l.run.Stop()
	own := l.early + l.total().packets - last.packets
	var counted, packets, dropped, linearized, rockets, noCarrier uint64
	for n := range output.Summary.Interfaces {
		i := &output.Summary.Interfaces[n]
		counted, packets = counted+i.Counted(), packets+i.Packets
		dropped, linearized = dropped+i.Dropped, linearized+i.Linearized
		rockets, noCarrier = rockets+i.Causes["too_many_slots"], noCarrier+i.Causes["no_carrier"]
		if i.TxDroppedDelta != nil && *i.TxDroppedDelta != i.Dropped && !(l.vanished && *i.TxDroppedDelta > i.Dropped) {
			l.t.Errorf("%s: %d dropped, tx_dropped moved by %d", i.Ifname, i.Dropped, *i.TxDroppedDelta)
		}
	}
	want := l.sum.packets + dropped
	l.t.Logf("%s: %d packets counted, the interface sent %d and dropped %d; %d dropped (%d for no_carrier), %d linearized, %d records, %d interfaces, gaps %v",
		l.backend, counted, l.sum.packets, l.sum.dropped, dropped, noCarrier, linearized, len(output.Packets), len(output.Summary.Interfaces), gapsOf(&output))
	if counted > want+own || counted+unseen < want || packets != counted {
		l.t.Errorf("%d packets counted, %d in the histograms, want %d, of which %d may be unseen, and %d more", packets, counted, want, unseen, own)
	}
	if dropped != l.sum.dropped && !(l.vanished && dropped < l.sum.dropped) || rockets != l.dropped || linearized != l.linearized {
		l.t.Errorf("%d dropped, of them %d rockets, %d linearized: want the interface's %d, %d and %d", dropped, rockets, linearized, l.sum.dropped, l.dropped, l.linearized)
	}
	if dropped != rockets+noCarrier || noCarrier != 0 && !l.disconnected {
		l.t.Errorf("%d dropped, of them %d rockets and %d for no_carrier: want no others", dropped, rockets, noCarrier)
	}
	if got := uint64(len(output.Packets)) - output.Bounces(); got != dropped+linearized || output.Summary.Lost.Ring != 0 {
		l.t.Errorf("%d records of %d packets that went wrong, %d lost in the ring", got, dropped+linearized, output.Summary.Lost.Ring)
	}
	for n := range output.Packets {
		if at := output.Packets[n].Time; at.Before(l.began.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			l.t.Fatalf("record of %v: the test ran from %v to %v", at, l.began, time.Now())
		}
	}
	return output
}

// gapsOf says what gaps there were.
func gapsOf(output *tool.Output) []string {
	var all []string
	for _, gap := range output.Summary.Gaps {
		length := "open"
		if gap.To != nil {
			length = gap.To.Sub(gap.From).Round(time.Millisecond).String()
		}
		all = append(all, gap.Reason+" "+length)
	}
	return all
}

// gap returns the only one there was, of that reason and over.
func gap(t *testing.T, output *tool.Output, reason string) time.Duration {
	t.Helper()
	all := output.Summary.Gaps
	if len(all) != 1 || all[0].Reason != reason || all[0].To == nil {
		t.Fatalf("gaps %v, want one for %s that is over", gapsOf(output), reason)
	}
	return all[0].To.Sub(all[0].From)
}

func noGap(t *testing.T, output *tool.Output) {
	t.Helper()
	if len(output.Summary.Gaps) != 0 {
		t.Errorf("gaps %v, want none", gapsOf(output))
	}
}

// command runs a program of the guest.
func command(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// dom0 has dom0 begin to do something to the guest, and returns how to wait for it.
func dom0(t *testing.T, action string) (done func()) {
	t.Helper()
	before := ask(t, "do "+action).Done
	return func() {
		t.Helper()
		for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			answer, err := counts.Ask(ctx, env(t, "XENTRACE_PEER"), "counts")
			cancel()
			switch {
			case err == nil && answer.Failed != "":
				t.Fatal(answer.Failed)
			case err == nil && answer.Done > before:
				return
			case time.Since(began) > 4*time.Minute: // saving a guest takes a while in a busy emulation
				t.Fatalf("dom0 is not done with %q: %v", action, errors.Join(err, fmt.Errorf("it says %+v", answer)))
			}
		}
	}
}
