package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/test/rocket"
	"xentrace/test/tool"
)

const (
	stormRate    = 300_000           // events a second, at least
	stormPace    = stormRate + 3_000 // what is aimed at
	stormLength  = 5 * time.Second
	stormClones  = 300
	stormRing    = "512MiB"
	defaultRate  = 150_000 // events a second that the default ring holds up to
	defaultPace  = defaultRate + 1_500
	recordGoal   = 432 // bytes, 48 of them for the flow of what a tunnel carries
	recordHeader = 8   // what the ring buffer itself puts before a record
)

// recordSize is how long the record of a packet with that many fragments is in the ring.
func recordSize(frags int) int {
	var event bpf.XentracePacketEvent
	return recordHeader + int(unsafe.Offsetof(event.Frags)) + frags*int(unsafe.Sizeof(event.Frags[0]))
}

// ringSpace is that, rounded up to the eight bytes that records are aligned to.
func ringSpace(frags int) int { return (recordSize(frags) + 7) &^ 7 }

// An ordinary record is below the length that the sizes of rings are reckoned with.
func TestRecordSize(t *testing.T) {
	if size := recordSize(manyFrags); size >= recordGoal {
		t.Errorf("record of a packet with %d fragments: %d bytes, want less than %d", manyFrags, size, recordGoal)
	}
}

// BenchmarkRing has real TCP packets of 17 fragments and more than 18 slots, each
// an event, come 300,000 a second for five seconds, with the program writing its
// records to a file. Half as many come with the default ring.
func BenchmarkRing(b *testing.B) {
	l := newLab(b)
	sink, sender := l.rockets()
	for b.Loop() {
		for _, s := range []stormed{{rate: stormRate, pace: stormPace, ring: stormRing}, {rate: defaultRate, pace: defaultPace, ring: "auto"}} {
			l.storm(sender, &s)
			if received := sink.Received(); received.Corrupt != nil {
				b.Fatal(received.Corrupt)
			}
			s.tell(b)
		}
	}
}

// rockets makes a sender of many-slot segments whose packets are mirrored out of
// the near interface.
func (l *lab) rockets() (*rocket.TCPSink, *rocket.TCP) {
	l.tb.Helper()
	address := l.feed(mirror(l.ifindex, stormClones, actOK))
	var sink *rocket.TCPSink
	must(l.tb, l.far.Namespace.Do(func() (err error) {
		sink, err = rocket.NewTCPSink(l.tb.Context(), netip.AddrPortFrom(address, 0))
		return err
	}))
	l.tb.Cleanup(func() { must(l.tb, sink.Close()) })
	sender, err := rocket.NewTCP(l.tb.Context(), sink.Local(), rocket.Options{})
	must(l.tb, err)
	l.tb.Cleanup(func() { must(l.tb, sender.Close()) })
	return sink, sender
}

// stormed is a storm of events, and what came of it.
type stormed struct {
	rate, pace int // events a second: at least, and aimed at
	ring       string

	events  int // packets over the limit that were sent
	took    time.Duration
	written uint64
	lost    uint64
	waiting int           // records in the ring when the last packet had been sent
	bytes   int64         // of the file
	after   time.Duration // that the program went on for after the last packet
	cpu     time.Duration // of the program
	rss     int64         // KiB
}

func (l *lab) storm(sender *rocket.TCP, s *stormed) {
	l.tb.Helper()
	directory := l.tb.TempDir()
	output, err := os.Create(filepath.Join(directory, "records.json"))
	must(l.tb, err)
	defer func() { must(l.tb, output.Close()) }()
	ready := filepath.Join(directory, "ready")
	cmd := exec.Command(xentrace, "watch", "-i", "near", "-o", "json", "--ring-size", s.ring, "--ready-file", ready)
	cmd.Stdout = output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	must(l.tb, cmd.Start())
	for !exists(ready) {
		time.Sleep(time.Millisecond)
	}
	s.events, s.took = l.send(sender, int(stormLength/time.Second)*s.pace, s.pace)
	ended := time.Now()
	soFar, err := output.Stat()
	must(l.tb, err)
	must(l.tb, cmd.Process.Signal(unix.SIGINT))
	must(l.tb, cmd.Wait())
	s.after = time.Since(ended)
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	s.rss = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	s.count(l.tb, output.Name())
	s.waiting = s.events - int(float64(soFar.Size())/float64(s.bytes)*float64(s.written))
}

// send sends packets over the limit, pace of them a second, and returns how many there were
// and how long that took.
func (l *lab) send(sender *rocket.TCP, least, pace int) (events int, took time.Duration) {
	l.tb.Helper()
	hurry(l.tb, true)
	defer hurry(l.tb, false)
	began := time.Now()
	for events < least {
		// As many as are due, and no more.
		if due := int(time.Since(began).Seconds() * float64(pace)); events > due {
			time.Sleep(time.Duration(events-due) * time.Second / time.Duration(pace))
		}
		_, err := sender.Send(l.tb.Context())
		must(l.tb, err)
		events += stormClones
	}
	return events, time.Since(began)
}

// hurry has all threads of this process go before ordinary ones (SCHED_FIFO), or no
// longer: the events are to come at their rate, whatever else the machine does. The
// program that reads them stays an ordinary one.
func hurry(tb testing.TB, on bool) {
	tb.Helper()
	attributes := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	if on {
		attributes.Policy, attributes.Priority = unix.SCHED_FIFO, 1
	}
	threads, err := os.ReadDir("/proc/self/task")
	must(tb, err)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		must(tb, err)
		if err := unix.SchedSetAttr(id, &attributes, 0); err != nil && err != unix.ESRCH {
			tb.Fatalf("scheduling of thread %d: %v", id, err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// count reads what the program wrote.
func (s *stormed) count(tb testing.TB, name string) {
	tb.Helper()
	file, err := os.Open(name)
	must(tb, err)
	defer func() { must(tb, file.Close()) }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	var last []byte
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte(`{"type":"packet"`)) {
			s.written++
		}
		s.bytes += int64(len(lines.Bytes()) + 1)
		last = append(last[:0], lines.Bytes()...)
	}
	must(tb, lines.Err())
	var summary tool.Summary
	must(tb, json.Unmarshal(last, &summary))
	s.lost = summary.Lost.Ring
}

func (s *stormed) tell(b *testing.B) {
	rate := float64(s.events) / s.took.Seconds()
	t := table{
		title: fmt.Sprintf("Ring: TCP packets of %d fragments over the limit, each an event, with watch -o json writing to a file and --ring-size %s", manyFrags, s.ring),
		head:  []string{"", ""},
	}
	t.add("events", fmt.Sprint(s.events))
	t.add("in", fmt.Sprintf("%.2f s", s.took.Seconds()))
	t.add("events a second", fmt.Sprintf("%.0f", rate))
	t.add("bytes of a record in the ring", fmt.Sprint(recordSize(manyFrags)))
	t.add("written", fmt.Sprint(s.written))
	t.add("lost", fmt.Sprint(s.lost))
	t.add("in the ring after the last packet", fmt.Sprintf("%d records, %d MiB", s.waiting, s.waiting*ringSpace(manyFrags)>>20))
	t.add("JSON", fmt.Sprintf("%.0f MB, %.0f bytes a record", float64(s.bytes)/1e6, float64(s.bytes)/float64(max(1, s.written))))
	t.add("done after the last packet", fmt.Sprintf("%.2f s", s.after.Seconds()))
	t.add("CPU time of the program", fmt.Sprintf("%.2f s, %.2f µs an event", s.cpu.Seconds(), float64(s.cpu.Microseconds())/float64(max(1, s.written))))
	t.add("resident", fmt.Sprintf("%d MiB", s.rss>>10))
	findings.add(t)
	findings.goal("events a second for 5 s, --ring-size "+s.ring, fmt.Sprintf("≥ %d", s.rate), fmt.Sprintf("%.0f", rate), rate >= float64(s.rate))
	findings.goal("events lost meanwhile", "0", fmt.Sprintf("%d", s.lost), s.lost == 0 && s.written == uint64(s.events))
	findings.goal("record, IPv4, TCP, 17 fragments", fmt.Sprintf("< %d bytes", recordGoal), fmt.Sprintf("%d bytes", recordSize(manyFrags)), recordSize(manyFrags) < recordGoal)
	b.ReportMetric(rate, "events/s")
	b.ReportMetric(float64(s.lost), "lost")
}
