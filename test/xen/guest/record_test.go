//go:build xenlab

package guest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// replayed is what the program shows of a recording.
func replayed(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(program(t), args...).Output()
	if err != nil {
		t.Fatalf("xentrace %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// A connection that stalls is recorded; the recorder is killed, and nothing that was on disk
// is lost: the recording has each dropped packet with its header, that the connection is
// stalled, and this machine; a page can be made of it.
func TestRecordAStall(t *testing.T) {
	if env(t, "XENTRACE_LAB_DRIVER") != "prefix" {
		t.Skip("the driver linearizes: no connection stalls")
	}
	defer jumbo(t)()
	dir := filepath.Join(t.TempDir(), "recording")
	run := tool.Start(t, program(t), "record", "--dir", dir)
	time.Sleep(settle)
	before := counter(t, "tx_dropped")
	s := newStuck(t, "ipv4")
	s.awaitDrops(t, 3)
	port := fmt.Sprintf(`"sport":%d,`, s.Local().Port())
	stalled := func(text string) bool {
		for line := range strings.Lines(text) {
			if strings.Contains(line, `"event":"stalled"`) && strings.Contains(line, port) {
				return true
			}
		}
		return false
	}
	packets := func(text string) uint64 {
		return uint64(strings.Count(text, `"verdict":"dropped","cause":"too_many_slots","slots"`))
	}
	var dropped uint64
	var text string
	for range 100 { // until the disk has what was dropped at one moment, and the interval of 10 s that counts it
		dropped = counter(t, "tx_dropped") - before
		time.Sleep(time.Second)
		if text = replayed(t, "replay", "-o", "json", dir); stalled(text) && packets(text) >= dropped && !strings.Contains(text, `"duration_ms":0,"interfaces":`) {
			break
		}
	}
	process, err := os.FindProcess(run.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	after := replayed(t, "replay", "-o", "json", dir)
	if !stalled(after) || packets(after) < dropped || !strings.Contains(after, `"header":"`) || dropped < 3 {
		t.Errorf("%d packets of %d dropped, stalled: %t; of\n%s", packets(after), dropped, stalled(after), after)
	}
	page := filepath.Join(t.TempDir(), "x.html")
	replayed(t, "report", dir, "-w", page)
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf(":%d", s.Local().Port()), "too_many_slots", "stalled", env(t, "XENTRACE_LAB_KERNEL")} {
		if !strings.Contains(string(html), want) {
			t.Errorf("no %q on the page", want)
		}
	}
	t.Logf("%d packets of %d dropped after SIGKILL", packets(after), dropped)
}

// What watch -w recorded in the guest is replayed as it was printed, drops of the driver's
// counter and all.
func TestReplayInTheGuest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl.zst")
	run := tool.Start(t, program(t), "watch", "-o", "json", "-w", path)
	before := counter(t, "tx_dropped")
	sender, err := rocket.NewUDP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), 7023), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sender.Close() }()
	for range 20 {
		if _, err := sender.Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(settle)
	dropped := counter(t, "tx_dropped") - before
	output := run.Stop()
	if again := replayed(t, "replay", "-o", "json", path); again != output.Stdout {
		t.Errorf("replayed\n%s\nlive\n%s", again, output.Stdout)
	}
	if got := output.Summary.Interfaces[0].Dropped; got != dropped {
		t.Errorf("%d dropped, %d by the driver's counter", got, dropped)
	}
}
