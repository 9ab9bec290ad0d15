//go:build xenlab

package guest

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"xentrace/internal/trace"
	"xentrace/test/tool"
)

const (
	soakToggle = 3 * time.Second // between two changes of the interface
	// soakGrowth is what the last quarter of the soak may take more than the one before, in KiB:
	// the leeway of the garbage collector, which lets the heap of some 4 MiB double.
	soakGrowth = 2048
	// soakMapped is what may become resident of what is mapped: the ring buffer, which is
	// mapped twice over, and some code.
	soakMapped = 2*trace.DefaultRingBytes>>10 + 2048
)

// soakToggles are what is done to the interface, over and over.
var soakToggles = [][]string{
	{"ip link set eth0 mtu 1400"},
	{"ethtool -K eth0 tso off gso off"},
	{"ip link set eth0 mtu 1500"},
	{"ethtool -K eth0 gso on tso on"},
	{"ip link set eth0 down", "up"},
	{"ethtool -K eth0 sg off"},
	{"ethtool -K eth0 sg on tso on gso on"},
}

// soakRun is the tracer in a soak, whose records are looked at as they come: there are
// too many to keep.
type soakRun struct {
	cmd  *exec.Cmd
	done chan error

	mu         sync.Mutex
	records    map[string]uint64 // by verdict and cause
	impossible []string          // records that cannot be
	summary    *tool.Summary
}

func startSoakRun(t *testing.T) *soakRun {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	r := &soakRun{records: make(map[string]uint64), done: make(chan error, 1)}
	r.cmd = exec.Command(program(t), "watch", "-o", "json", "--ready-file", ready)
	r.cmd.Stderr = os.Stderr
	output, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	go func() {
		lines := bufio.NewScanner(output)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			r.take(lines.Bytes())
		}
		r.done <- lines.Err()
	}()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(ready); err == nil {
			return r
		}
		if time.Since(began) > time.Minute {
			t.Fatal("the tracer is not ready after a minute")
		}
	}
}

// take looks at one line: a record must be of a packet that can have gone wrong.
func (r *soakRun) take(line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var p tool.Packet
	if err := json.Unmarshal(line, &p); err != nil {
		r.impossible = append(r.impossible, err.Error())
		return
	}
	if p.Type == "summary" {
		r.summary = new(tool.Summary)
		if err := json.Unmarshal(line, r.summary); err != nil {
			r.impossible = append(r.impossible, err.Error())
		}
		return
	}
	if p.Type == "flow" { // made of packets that are reported, too
		return
	}
	kind := p.Verdict + " " + text(p.Cause)
	r.records[kind]++
	possible := p.Slots == p.SlotsOfParts() && p.Ifname == ifname && p.Flow != nil
	switch kind {
	case "dropped too_many_slots", "linearized ":
		possible = possible && p.Slots > limit
	case "dropped sg_off":
		possible = possible && p.Slots > 1
	case "bounced ":
		possible = possible && p.HeadOffset > 4096-14
	case "dropped no_carrier", "dropped needs_gso": // a packet that was under way when it was switched
	default:
		possible = false
	}
	if !possible {
		r.impossible = append(r.impossible, p.String())
	}
}

// end interrupts the tracer and waits for its summary.
func (r *soakRun) end(t *testing.T) *tool.Interface {
	t.Helper()
	if err := r.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the tracer did not end within a minute")
	}
	if err := r.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if r.summary == nil || len(r.summary.Interfaces) != 1 {
		t.Fatalf("summary %+v, want one with one interface", r.summary)
	}
	return &r.summary.Interfaces[0]
}

// soakMemory is a process's resident memory, in KiB.
type soakMemory struct {
	anonymous int // what it allocated
	mapped    int // its file, and those pages of the ring buffer that it has read so far
}

func residentMemory(t *testing.T, pid int) (m soakMemory) {
	t.Helper()
	for line := range strings.Lines(readFile(t, filepath.Join("/proc", strconv.Itoa(pid), "status"))) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "RssAnon":
			m.anonymous = atoi(t, strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		case "RssFile", "RssShmem":
			m.mapped += atoi(t, strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		}
	}
	if m.anonymous == 0 {
		t.Fatal("resident memory is not reported")
	}
	return m
}

// soakLength is 20 s, or as XENTRACE_SOAK says.
func soakLength(t *testing.T) time.Duration {
	t.Helper()
	value := os.Getenv("XENTRACE_SOAK")
	if value == "" {
		return 20 * time.Second
	}
	length, err := time.ParseDuration(value)
	if err != nil {
		t.Fatal(err)
	}
	return length
}

// Mixed traffic from every CPU while the interface is toggled. At the end every
// packet and every drop was counted, nothing was reported that did not happen, and the
// tracer is as large as before.
//
// The tracer starts and ends while the interface is down. Connections that the senders
// closed go on sending what they have for seconds (137 packets in two, in one run), and the kernel
// sends by itself after a toggle: the tracer would count what comes between the reading of
// the interface's counters and its own end.
func TestSoak(t *testing.T) {
	length := soakLength(t)
	before := mapIDs(t)
	link(t, "down")
	t.Cleanup(func() { setUp(t, place{name: ifname}) })
	run := startSoakRun(t)
	maps := newMaps(t, before)
	packets, dropped := counter(t, "tx_packets"), counter(t, "tx_dropped")
	setUp(t, place{name: ifname})
	time.Sleep(4 * time.Second) // the driver's code is read next to the counting
	used := inUse(t, maps)
	var senders []soakSender
	for cpu := range atoi(t, env(t, "XENTRACE_LAB_VCPUS")) {
		senders = append(senders, startSoakSender(t, cpu))
	}
	memory, toggles := soak(t, run, maps, length)
	var sent soakSent
	for _, s := range senders {
		sent.add(s.end(t))
	}
	late := counter(t, "tx_packets")
	time.Sleep(2 * time.Second)
	late = counter(t, "tx_packets") - late
	link(t, "down")
	packets, dropped = counter(t, "tx_packets")-packets, counter(t, "tx_dropped")-dropped
	after := inUse(t, maps)
	i := run.end(t)
	t.Logf("soak: %v, %d toggles, sent %+v; %d packets after the senders had ended", length, toggles, sent, late)
	t.Logf("soak: %d packets counted; the interface sent %d and counted %d dropped; dropped %d, linearized %d, bounced %d, causes %v, records %v, lost %d",
		i.Counted(), packets, dropped, i.Dropped, i.Linearized, i.Bounced, i.Causes, run.records, run.summary.Lost.Ring)
	run.checkSoak(t, i, packets, dropped)
	if sent.Rockets == 0 || sent.TCPRockets == 0 || sent.Datagrams == 0 || sent.Segments == 0 || sent.BulkBytes == 0 {
		t.Errorf("sent %+v: want some of everything", sent)
	}
	checkFlat(t, memory)
	t.Logf("soak: entries of maps in use %v, at the end %v", used, after)
	for name, n := range after {
		if n > used[name]+1 {
			t.Errorf("map %s: %d entries in use, %d at first: it grows", name, n, used[name])
		}
	}
}

// soak toggles the interface until the time is up, and returns the tracer's memory
// second by second and how often it toggled.
func soak(t *testing.T, run *soakRun, maps []*ebpf.Map, length time.Duration) (memory []soakMemory, toggles int) {
	t.Helper()
	t.Cleanup(func() {
		command(t, "ethtool", "-K", ifname, "sg", "on", "tso", "on", "gso", "on")
		command(t, "ip", "link", "set", ifname, "mtu", "1500")
	})
	next := time.Now().Add(soakToggle)
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Second) {
		memory = append(memory, residentMemory(t, run.cmd.Process.Pid))
		if time.Now().Before(next) {
			continue
		}
		for _, change := range soakToggles[toggles%len(soakToggles)] {
			if change == "up" {
				time.Sleep(200 * time.Millisecond)
				setUp(t, place{name: ifname})
				continue
			}
			command(t, strings.Fields(change)...)
		}
		inUse(t, maps)
		toggles++
		next = time.Now().Add(soakToggle)
	}
	return memory, toggles
}

// checkSoak compares the summary with the interface's counters and with the records.
func (r *soakRun) checkSoak(t *testing.T, i *tool.Interface, packets, dropped uint64) {
	t.Helper()
	// The driver counts each packet that it sent, without fault. Its count of drops may
	// lose one of two at once: what was handed to it and not sent was dropped.
	if i.Counted() != packets+i.Dropped || i.Packets != i.Counted() {
		t.Errorf("%d packets in the histogram, %d counted; want the %d sent and the %d dropped", i.Counted(), i.Packets, packets, i.Dropped)
	}
	if i.Dropped < dropped || i.TxDroppedDelta == nil || *i.TxDroppedDelta != dropped {
		t.Errorf("%d dropped, tx_dropped_delta %v: the interface counted %d", i.Dropped, i.TxDroppedDelta, dropped)
	}
	byVerdict := map[string]uint64{}
	for kind, n := range r.records {
		byVerdict[strings.Fields(kind)[0]] += n
	}
	if byVerdict["dropped"] != i.Dropped || byVerdict["linearized"] != i.Linearized {
		t.Errorf("records %v of %d dropped and %d linearized", r.records, i.Dropped, i.Linearized)
	}
	if len(r.impossible) != 0 {
		t.Errorf("%d false records, the first: %s", len(r.impossible), r.impossible[0])
	}
	if lost := r.summary.Lost; lost.Ring != 0 || lost.Recursion != nil && *lost.Recursion != 0 || lost.Missed != nil && *lost.Missed != 0 {
		t.Errorf("lost %+v, want nothing", lost)
	}
	if len(r.summary.Gaps) != 0 {
		t.Errorf("gaps %v, want none", r.summary.Gaps)
	}
}

// checkFlat checks that the last quarter took no more memory than the one before: until
// then there is room for flows that went wrong (4096 of them are kept), and the pages of the
// ring buffer become resident as records reach them.
func checkFlat(t *testing.T, samples []soakMemory) {
	t.Helper()
	if len(samples) < 4 { // one for each quarter
		t.Fatalf("memory sampled %d times only", len(samples))
	}
	var quarters [4]soakMemory
	for n, sample := range samples {
		q := &quarters[4*n/len(samples)]
		q.anonymous, q.mapped = max(q.anonymous, sample.anonymous), max(q.mapped, sample.mapped)
	}
	t.Logf("soak: KiB of memory allocated and mapped %v at first, at most %v by quarters of the time; %d samples", samples[0], quarters, len(samples))
	if quarters[3].anonymous > quarters[2].anonymous+soakGrowth {
		t.Errorf("%d KiB in the last quarter, %d in the one before: it grows", quarters[3].anonymous, quarters[2].anonymous)
	}
	if quarters[3].mapped > samples[0].mapped+soakMapped {
		t.Errorf("%d KiB mapped in the end, %d at first: more than the ring buffer", quarters[3].mapped, samples[0].mapped)
	}
}
