package netns

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
)

const (
	appearances      = 20                 // without XENTRACE_HOSTILE
	appearancePace   = time.Minute / 2048 // with it, at most
	appearancesFirst = 100                // until memory is measured, or half of the time
	maxGrowth        = 8 << 10            // KiB
	appeared         = "interface comes appeared and is watched"
	comesNear        = "10.98.9.1/24"
	comesFar         = "10.98.9.2/24"
)

// An interface that comes and goes, up to 2,048 times a minute, is watched every time, with 1,024
// descriptors and in the same memory.
func TestInterfaceThatComesAndGoes(t *testing.T) {
	l := newLab(t)
	duration := hostileTime(t)
	port := l.udpSink(netip.IPv4Unspecified()).Local().Port()
	l.join("comes", "goes", netip.MustParsePrefix(comesNear), netip.MustParsePrefix(comesFar))
	watch := start(t, "watch", "-i", "near", "-i", "comes", "-o", "json")
	must(t, unix.Prlimit(watch.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 1024}, nil))
	change(t, "comes", netlink.LinkDel)
	began, read, came, first, resident, held := time.Now(), 0, 0, 0, 0, 0
	for ; came < appearances || time.Since(began) < duration; came++ {
		time.Sleep(time.Until(began.Add(time.Duration(came) * appearancePace * time.Duration(min(duration, 1)))))
		l.comeAndGo(port, func() bool {
			at := strings.Index(watch.stderr.after(read), appeared)
			if at >= 0 {
				read += at + len(appeared)
			}
			return at >= 0
		})
		// Each leaves a flow, and the table of flows takes 4,096 before it is full.
		if first == 0 && came >= appearancesFirst && time.Since(began) >= duration/2 {
			first = came
			resident, held = watch.status("VmRSS"), watch.descriptors()
		}
	}
	grown, more := watch.status("VmRSS")-resident, watch.descriptors()-held
	watch.stop()
	s := summaryOf(t, watch.stdout.String())
	seen := uint64(0)
	for _, i := range s.Interfaces {
		seen += i.OverLimit
	}
	if resident > 0 {
		t.Logf("%d times in %v; %d interfaces in the summary; %d KiB after %d times, %d KiB and %d descriptors more at the end",
			came, time.Since(began).Round(time.Second), len(s.Interfaces), resident, first, grown, more)
	}
	if n := strings.Count(watch.stderr.String(), appeared); n != came {
		t.Errorf("%d times said to have appeared, did %d times", n, came)
	}
	if seen != uint64(came) || s.Events != uint64(came) {
		t.Errorf("%d packets over the limit, %d records: sent %d", seen, s.Events, came)
	}
	if resident > 0 && (grown > maxGrowth || more > 10) {
		t.Errorf("limits are %d KiB, 10 descriptors", maxGrowth)
	}
}

// comeAndGo makes an interface, sends a datagram of too many slots out of it once it is watched,
// and removes it.
func (l *lab) comeAndGo(port uint16, watched func() bool) {
	l.t.Helper()
	l.join("comes", "goes", netip.MustParsePrefix(comesNear), netip.MustParsePrefix(comesFar))
	eventually(l.t, "comes is watched", watched)
	sender, err := rocket.NewUDP(l.t.Context(), netip.AddrPortFrom(netip.MustParsePrefix(comesFar).Addr(), port), rocket.Options{})
	must(l.t, err)
	_, err = sender.Send(l.t.Context())
	must(l.t, err)
	must(l.t, sender.Close())
	change(l.t, "comes", netlink.LinkDel)
}

// descriptors returns how many a program holds.
func (p *program) descriptors() int {
	p.t.Helper()
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd")
	must(p.t, err)
	return len(entries)
}
