//go:build xenlab

package guest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	exporterToggle = 5 * time.Second
	exporterReload = time.Minute // or half of the soak, if that is shorter
	exporterDisk   = 24          // MiB that the recording's file system has; it wants a twentieth of them free
	exporterSpare  = 512 << 10   // bytes that filling leaves of it: fewer than that twentieth

	exporterPatience = 10 * time.Minute

	// What it may have, in KiB. Until its table of 4,096 flows is full, after some 35 minutes, the
	// heap that is in use grows by 4 KiB for each.
	exporterGrowth = 5 << 10
	exporterMemory = 96 << 10
)

// collectErrors counts scrapes that were answered by earlier counts.
const collectErrors = "xentrace_collect_errors_total"

// What the exporter noticed.
const (
	driverReloads   = `xentrace_notices_total{id="driver_reloaded"}`
	interfacesAdded = `xentrace_notices_total{id="interface_added"}`
)

// exporterRun is the exporter in a soak.
type exporterRun struct {
	t       *testing.T
	process *exec.Cmd
	stderr  bytes.Buffer
	disk    string // where a file system of its own is mounted

	before  map[string]float64 // the last scrape
	unread  float64            // scrapes that a driver's code was not read for in time
	scrapes int
	samples []exporterSample
}

// exporterSample is what the exporter holds at one moment: KiB of heap that the last garbage
// collection found in use, and of anonymous memory.
type exporterSample struct{ live, anonymous, descriptors, goroutines int }

func startExporterRun(t *testing.T) *exporterRun {
	t.Helper()
	r := &exporterRun{t: t, disk: t.TempDir()}
	command(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", exporterDisk), "tmpfs", r.disk)
	t.Cleanup(func() { command(t, "umount", r.disk) })
	backend := withoutFentry(t)[0] // fentry would hold the driver
	r.process = exec.Command(filepath.Join(filepath.Dir(program(t)), "xentrace-exporter"),
		"-i", ifname, "--backend", backend, "--record", filepath.Join(r.disk, "recording"), "--max-size", "4MiB")
	r.process.Stderr, r.process.Env = &r.stderr, append(os.Environ(), "GOTRACEBACK=all")
	if err := r.process.Start(); err != nil {
		t.Fatalf("%v: build it, and name it with --file (make test-xen-exporter-soak does)", err)
	}
	t.Cleanup(func() {
		_ = r.process.Process.Kill()
		_ = r.process.Wait() // until then its disk is busy
	})
	r.eventually("the exporter is ready", func() bool {
		response, err := http.Get("http://127.0.0.1:10118/-/ready")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return r
}

func (r *exporterRun) eventually(what string, is func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(exporterPatience); !is(); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			_ = r.process.Process.Signal(unix.SIGABRT) // for what its goroutines do
			_ = r.process.Wait()
			r.t.Fatalf("after %s it is not so that %s: %s", exporterPatience, what, r.stderr.String())
		}
	}
}

// scrape returns every series by its text, and checks that no counter went back. The exporter
// ends a connection after 15 s, which an emulated CPU may take: then it is repeated.
func (r *exporterRun) scrape() map[string]float64 {
	r.t.Helper()
	var text []byte
	r.eventually("a scrape is answered", func() bool {
		response, err := http.Get("http://127.0.0.1:10118/metrics")
		if err == nil {
			text, err = io.ReadAll(response.Body)
			_ = response.Body.Close()
		}
		if err != nil {
			r.t.Logf("soak: a scrape failed: %v", err)
			return false
		}
		if response.StatusCode != http.StatusOK {
			r.t.Fatal(response.Status)
		}
		return true
	})
	now := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
			if err != nil {
				r.t.Fatal(err)
			}
			now[line[:i]] = value
		}
	}
	for series, value := range r.before {
		name, _, _ := strings.Cut(series, "{")
		if after, there := now[series]; strings.HasSuffix(name, "_total") && (!there || after < value) {
			r.t.Errorf("%s went from %g to %g (%t)", series, value, after, there)
		}
	}
	r.before = now
	r.scrapes++
	return now
}

// sum is that of the series of one metric of the interface.
func sum(series map[string]float64, name string) (total uint64) {
	for text, value := range series {
		if strings.HasPrefix(text, name+"{") && strings.Contains(text, `device="`+ifname+`"`) {
			total += uint64(value)
		}
	}
	return total
}

// sentByExporter is how many packets were handed to the driver and not dropped.
func sentByExporter(series map[string]float64) uint64 {
	return sum(series, "xentrace_packets_total") - sum(series, "xentrace_dropped_packets_total")
}

// exporterLife is one life of the interface: what was counted when it began.
type exporterLife struct{ counted, least, most uint64 }

// beginLife returns what is counted as a life of the interface begins; what it sent before
// that is between two readings.
func (r *exporterRun) beginLife() exporterLife {
	r.t.Helper()
	least := counter(r.t, "tx_packets")
	counted := sentByExporter(r.scrape())
	return exporterLife{counted, least, counter(r.t, "tx_packets")}
}

// endLife sets the interface down and compares: what the interface has sent in this life was
// counted, no more and no less.
func (r *exporterRun) endLife(l exporterLife) {
	r.t.Helper()
	link(r.t, "down")
	time.Sleep(time.Second)
	sent := counter(r.t, "tx_packets")
	counted := sentByExporter(r.scrape()) - l.counted
	if counted < sent-l.most || counted > sent-l.least {
		r.t.Errorf("%d packets counted, the interface sent %d to %d", counted, sent-l.most, sent-l.least)
	}
	r.t.Logf("soak: a life of the interface: %d packets counted, %d to %d sent; %.1f MiB of heap in use, %.0f objects",
		counted, sent-l.most, sent-l.least, r.before["go_memstats_heap_inuse_bytes"]/(1<<20), r.before["go_memstats_heap_objects"])
}

// reload ends one life of the interface and begins another.
func (r *exporterRun) reload(l exporterLife) exporterLife {
	r.t.Helper()
	r.endLife(l)
	failures, reloads, added := r.before[collectErrors], r.before[driverReloads], r.before[interfacesAdded]
	netfront(r.t, "unload")
	netfront(r.t, "load")
	// On a busy machine the exporter may learn of the removal only after the driver is back.
	r.eventually("the driver is watched again", func() bool {
		now := r.scrape()
		return now[driverReloads] > reloads && now[interfacesAdded] > added &&
			now["xentrace_hooks_missing"] == 0 && sum(now, "xentrace_interface_present") == 1
	})
	r.eventually("what the driver does with a packet is known", func() bool {
		failures := r.before[collectErrors]
		return r.scrape()[collectErrors] == failures
	})
	r.unread += r.before[collectErrors] - failures
	return r.beginLife()
}

// fill takes space away until the recording is paused, and gives it back.
func (r *exporterRun) fill() {
	r.t.Helper()
	hog := filepath.Join(r.disk, "hog")
	var stat unix.Statfs_t
	if err := unix.Statfs(r.disk, &stat); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(hog, make([]byte, int64(stat.Bavail)*stat.Bsize-exporterSpare), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("the recording is paused", func() bool { return r.scrape()["xentrace_recording_paused"] == 1 })
	if err := os.Remove(hog); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("recording resumes", func() bool { return r.scrape()["xentrace_recording_paused"] == 0 })
}

// sample notes what the exporter holds.
func (r *exporterRun) sample(now map[string]float64) {
	r.t.Helper()
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.process.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	live := int(now["go_memstats_next_gc_bytes"]) / 2 >> 10 // it may double until the next one
	r.samples = append(r.samples, exporterSample{live, residentMemory(r.t, r.process.Process.Pid).anonymous, len(descriptors), int(now["go_goroutines"])})
}

// checkFlat checks that the last quarter held no more than the one before.
func (r *exporterRun) checkFlat() {
	r.t.Helper()
	var quarters [4]exporterSample
	for n, s := range r.samples {
		q := &quarters[4*n/len(r.samples)]
		if q.descriptors == 0 { // the first one
			q.live = s.live
		}
		// The least of what is live: a collection that comes while a driver is read finds more.
		q.live, q.anonymous = min(q.live, s.live), max(q.anonymous, s.anonymous)
		q.descriptors, q.goroutines = max(q.descriptors, s.descriptors), max(q.goroutines, s.goroutines)
	}
	r.t.Logf("soak: %+v of KiB, descriptors and goroutines by quarters; %d samples", quarters, len(r.samples))
	before, last := quarters[2], quarters[3]
	// A driver that is being read has a few of its own.
	const leeway = 8
	if last.live > before.live+exporterGrowth || last.anonymous > exporterMemory || last.descriptors > before.descriptors+leeway || last.goroutines > before.goroutines+leeway {
		r.t.Errorf("%+v in the last quarter, %+v in the one before: it grows, or has over %d KiB", last, before, exporterMemory)
	}
}

// An exporter that records, under traffic: the interface is toggled every 5 s, its driver is
// loaded again every minute, its disk fills twice, and it is scraped every second. Counters
// are the interface's, life by life, and what it holds stays the same. It takes
// XENTRACE_EXPORTER_SOAK.
func TestExporterSoak(t *testing.T) {
	text := os.Getenv("XENTRACE_EXPORTER_SOAK")
	if text == "" {
		t.Skip("make test-xen-exporter-soak runs it")
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { setUp(t, place{name: ifname}) })
	r := startExporterRun(t)
	time.Sleep(4 * time.Second) // the driver's code is read next to the counting; unloaded before, it never is
	var senders []soakSender
	for cpu := range atoi(t, env(t, "XENTRACE_LAB_VCPUS")) {
		senders = append(senders, startSoakSender(t, cpu))
	}
	reloads := r.soak(length)
	for _, s := range senders {
		s.end(t)
	}
	last := r.scrape()
	t.Logf("soak: %v, %d reloads, %d scrapes; dropped %d, linearized %d", length, reloads, r.scrapes,
		sum(last, "xentrace_dropped_packets_total"), sum(last, "xentrace_linearized_packets_total"))
	if n, there := last[collectErrors]; !there || n != r.unread {
		t.Errorf("%g scrapes failed (%t), want those next to a reload: %g", n, there, r.unread)
	}
	for _, name := range []string{`xentrace_lost_records_total{reason="ring"}`, "xentrace_series_suppressed"} {
		if n, there := last[name]; !there || n != 0 {
			t.Errorf("%s is %g (%t), want 0", name, n, there)
		}
	}
	if n := last[`xentrace_notices_total{id="recording_paused"}`]; n < 2 {
		t.Errorf("the recording was paused %g times, want 2", n)
	}
	if n := last[driverReloads]; n != float64(reloads) || reloads == 0 {
		t.Errorf("the driver was reloaded %d times, %g of them noticed", reloads, n)
	}
	r.checkFlat()
	r.end()
}

// soak does all that until the time is up, and returns how often it loaded the driver again.
func (r *exporterRun) soak(length time.Duration) (reloads int) {
	r.t.Helper()
	began := time.Now()
	fills := []time.Duration{length / 4, length * 3 / 4}
	toggle, reload := exporterToggle, min(exporterReload, length/2)
	toggles := []string{"ethtool -K eth0 sg off", "ethtool -K eth0 sg on tso on gso on"}
	life := r.beginLife()
	for n := 0; time.Since(began) < length || len(fills) > 0; time.Sleep(time.Second) {
		r.sample(r.scrape())
		passed := time.Since(began)
		if passed >= toggle {
			command(r.t, strings.Fields(toggles[n%2])...)
			n, toggle = n+1, toggle+exporterToggle
		}
		if len(fills) > 0 && passed >= fills[0] {
			r.fill()
			fills = fills[1:]
		}
		if passed >= reload {
			life = r.reload(life)
			reloads++
			reload += exporterReload
		}
	}
	r.endLife(life)
	setUp(r.t, place{name: ifname})
	return reloads
}

// end ends the exporter, and reads its recording.
func (r *exporterRun) end() {
	r.t.Helper()
	if err := r.process.Process.Signal(unix.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	if err := r.process.Wait(); err != nil {
		r.t.Errorf("%v: %s", err, r.stderr.String())
	}
	types := make(map[string]int)
	for line := range strings.Lines(replayed(r.t, "replay", "-o", "json", filepath.Join(r.disk, "recording"))) {
		if _, rest, found := strings.Cut(line, `"type":"`); found {
			name, _, _ := strings.Cut(rest, `"`)
			types[name]++
		}
	}
	r.t.Logf("soak: the recording has %v", types)
	for _, want := range []string{"packet", "summary"} {
		if types[want] == 0 {
			r.t.Errorf("the recording has no %s, only %v", want, slices.Sorted(maps.Keys(types)))
		}
	}
}
