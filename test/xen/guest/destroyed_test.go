//go:build xenlab && matrix

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xentrace/test/tool"
)

// mounted mounts the file system that test/xen/destroyed puts on the guest's disk.
func mounted(t *testing.T) (directory string) {
	t.Helper()
	offset := os.Getenv("XENTRACE_LAB_DISK_OFFSET")
	if offset == "" {
		t.Skip("no file system on the disk: test/xen/destroyed runs this test")
	}
	directory = t.TempDir()
	// Some modules need others; what is built in is refused.
	script := fmt.Sprintf(`for round in 1 2 3 4 5; do for m in /lab/modules/*.ko; do insmod $m 2>/dev/null; done; done
		losetup -o %s /dev/loop0 /dev/xvda && mount -t ext4 /dev/loop0 %s`, offset, directory)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return directory
}

// A connection that stalls is recorded on a disk, and dom0 destroys the guest: what is on the
// disk is test/xen/destroyed's to look at.
func TestRecordUntilDestroyed(t *testing.T) {
	dir := filepath.Join(mounted(t), "recording")
	jumbo(t)
	run := tool.Start(t, program(t), "record", "--dir", dir)
	time.Sleep(settle)
	before := counter(t, "tx_dropped")
	s := newStuck(t, "ipv4")
	s.awaitDrops(t, 3)
	for range 60 { // until an interval of 10 s is on the disk, which counts it
		time.Sleep(time.Second)
		if text := replayed(t, "replay", "-o", "json", dir); strings.Contains(text, `"event":"stalled"`) && !strings.Contains(text, `"duration_ms":0,"interfaces":`) {
			break
		}
	}
	dropped := counter(t, "tx_dropped") - before
	withoutScatterGather := loseWithoutScatterGather(t)
	time.Sleep(time.Second)
	fmt.Printf("destroyed now: %d dropped, port %d, %d without scatter-gather\n", dropped, s.Local().Port(), withoutScatterGather)
	time.Sleep(time.Second) // until the host has that line
	ask(t, "do destroy")
	time.Sleep(time.Minute)
	t.Errorf("dom0 did not destroy the guest; xentrace record (%d) is still running", run.PID())
}

// loseWithoutScatterGather switches it off and forwards datagrams, of which the driver drops
// those that cross a page. It returns how many those were.
func loseWithoutScatterGather(t *testing.T) (dropped uint64) {
	t.Helper()
	tap(wholeFrames)(t)
	scatterGather(t, "off")
	before := counter(t, "tx_dropped")
	forwarded(t, &row{port: 7025})
	if dropped = counter(t, "tx_dropped") - before; dropped < 20 {
		t.Fatalf("%d of %d datagrams dropped", dropped, wholeFrames.count)
	}
	return dropped
}
