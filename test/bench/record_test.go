package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/record"
	"xentrace/test/tool"
)

// stormSeconds is how long the storm lasts that record stands.
const stormSeconds = 10

// BenchmarkRecord has 300,000 packets over the limit a second for ten seconds while record
// runs as it does by default. Each half of the storm lies within an interval of the recording,
// which is compared with the interface's own count.
func BenchmarkRecord(b *testing.B) {
	l := newLab(b)
	_, sender := l.rockets()
	for b.Loop() {
		directory := b.TempDir()
		recording, ready := filepath.Join(directory, "recording"), filepath.Join(directory, "ready")
		cmd := exec.Command(xentrace, "record", "-i", "near", "--dir", recording, "--ready-file", ready)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		must(b, cmd.Start())
		for !exists(ready) {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		var events int
		var took time.Duration
		var sent []uint64 // by the interface, in each half
		for half := range 2 {
			before := l.transmitted()
			n, lasted := l.send(sender, stormSeconds/2*stormPace, stormPace)
			events, took, sent = events+n, took+lasted, append(sent, l.transmitted()-before)
			time.Sleep(time.Until(began.Add(time.Duration(half+1)*recordInterval + time.Second)))
		}
		must(b, cmd.Process.Signal(unix.SIGINT))
		must(b, cmd.Wait())
		cpu := (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() / took.Seconds()
		var size int64
		entries, err := os.ReadDir(recording)
		must(b, err)
		for _, entry := range entries {
			info, err := entry.Info()
			must(b, err)
			size += info.Size()
		}
		disk := float64(size) / took.Seconds()
		records, summary := replayed(b, recording)
		suppressed := uint64(0)
		for _, s := range summary.Suppressed {
			suppressed += s.Records
		}
		over, counted := summary.Interfaces[0].OverLimit, countedByInterval(b, recording)
		t := table{title: "record during a storm, with its defaults", head: []string{"", ""}}
		t.add("events a second", fmt.Sprintf("%.0f", float64(events)/took.Seconds()))
		t.add("CPU", fmt.Sprintf("%.1f %% of one", 100*cpu))
		t.add("disk", fmt.Sprintf("%.2f MiB/s", disk/(1<<20)))
		t.add("recorded", fmt.Sprint(records))
		t.add("suppressed", fmt.Sprint(suppressed))
		findings.add(t)
		findings.goal("record: CPU at 300,000 events/s", "< 25 %", fmt.Sprintf("%.1f %%", 100*cpu), cpu < 0.25)
		findings.goal("record: disk", "< 4 MiB/s", fmt.Sprintf("%.2f MiB/s", disk/(1<<20)), disk < 4<<20)
		findings.goal("record: counts", "exact", fmt.Sprintf("%d over the limit of %d", over, events), over == uint64(events) && records+suppressed == over)
		findings.goal("record: packets of each interval", fmt.Sprint(sent), fmt.Sprint(counted), len(counted) >= 2 && slices.Equal(counted[:2], sent))
	}
}

// recordInterval is how often record writes what it counted.
const recordInterval = 10 * time.Second

// transmitted is how many packets the near interface sent, by its own count.
func (l *lab) transmitted() uint64 {
	l.tb.Helper()
	link, err := netlink.LinkByIndex(l.ifindex)
	must(l.tb, err)
	return link.Attrs().Statistics.TxPackets
}

// countedByInterval is the packets of each interval of a recording.
func countedByInterval(b *testing.B, recording string) (packets []uint64) {
	b.Helper()
	source, err := record.Open(b.Context(), []string{recording}, record.ReadOptions{})
	must(b, err)
	for {
		e, err := source.Next(b.Context())
		if errors.Is(err, io.EOF) {
			return packets
		}
		must(b, err)
		if i, isInterval := e.(*event.Interval); isInterval {
			packets = append(packets, i.Sum().Packets)
		}
	}
}

// stormSummary is what the end of a recording counts.
type stormSummary struct {
	tool.Summary
	Suppressed []struct{ Records uint64 }
}

// replayed counts the packets of a recording, and returns its summary.
func replayed(b *testing.B, recording string) (records uint64, summary stormSummary) {
	b.Helper()
	out, err := exec.Command(xentrace, "replay", recording, "-o", "json").Output()
	must(b, err)
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	var last []byte
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte(`{"type":"packet"`)) {
			records++
		}
		last = append(last[:0], lines.Bytes()...)
	}
	must(b, lines.Err())
	must(b, json.Unmarshal(last, &summary))
	return records, summary
}
