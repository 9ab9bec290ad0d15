package trace

import (
	"slices"
	"testing"
	"time"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/test/need"
)

// oneLook is what one look at an interface of one queue finds. Looks are a second
// apart unless said otherwise.
type oneLook struct {
	packet  int  // second in which the queue took its last packet
	stopped bool // by the driver
	down    bool // the interface, or its carrier
	gone    bool
	later   int // seconds more since the look before
}

var stuckTests = []struct {
	name  string
	looks []oneLook
	want  []change
	lasts time.Duration
	now   bool
}{
	{name: "idle", looks: []oneLook{{}, {}, {}, {}, {}, {}}},
	{name: "busy, and always found stopped",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 2, stopped: true}, {packet: 3, stopped: true}, {packet: 4, stopped: true}, {packet: 5, stopped: true}}},
	{name: "stopped for less than four looks",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1}, {packet: 1}}},
	{name: "full, and stays so",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}},
		want:  []change{{event.NoticeQueueStuck, 0, 3}}, lasts: 4 * time.Second, now: true},
	{name: "full before the first look",
		looks: []oneLook{{packet: 1, stopped: true, later: 60}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}},
		want:  []change{{event.NoticeQueueStuck, 0, 63}}, lasts: 63 * time.Second, now: true},
	{name: "full, then recovers",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 6}},
		want:  []change{{event.NoticeQueueStuck, 0, 3}, {event.NoticeQueueRecovered, 0, 5}}, lasts: 5 * time.Second},
	{name: "full, then recovers and is found stopped each time",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true},
			{packet: 5, stopped: true}, {packet: 6, stopped: true}, {packet: 7, stopped: true}, {packet: 8, stopped: true}},
		want: []change{{event.NoticeQueueStuck, 0, 3}, {event.NoticeQueueRecovered, 0, 7}}, lasts: 7 * time.Second},
	{name: "the guest was paused while it was stopped",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 1, stopped: true, later: 100}, {packet: 1, stopped: true}, {packet: 104}, {packet: 104}}},
	{name: "set down, which stops the queues",
		looks: []oneLook{{}, {stopped: true, down: true}, {stopped: true, down: true}, {stopped: true, down: true}, {stopped: true, down: true}, {stopped: true, down: true}, {packet: 6}}},
	{name: "gone while it was full",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {gone: true}, {gone: true}},
		want:  []change{{event.NoticeQueueStuck, 0, 3}}, lasts: 3 * time.Second},
	{name: "set down and up does not help",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true},
			{packet: 1, stopped: true, down: true}, {packet: 6}, {packet: 6}, {packet: 6}, {packet: 9, stopped: true}, {packet: 9, stopped: true}},
		want: []change{{event.NoticeQueueStuck, 0, 3}}, lasts: 9 * time.Second, now: true},
	{name: "connected anew",
		looks: []oneLook{{packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true}, {packet: 1, stopped: true},
			{packet: 1, down: true}, {packet: 6}, {packet: 7}},
		want: []change{{event.NoticeQueueStuck, 0, 3}, {event.NoticeQueueRecovered, 0, 6}}, lasts: 6 * time.Second},
}

func TestStuckWatch(t *testing.T) {
	const hz = 250
	key := deviceKey{2, 4026531840}
	for _, test := range stuckTests {
		t.Run(test.name, func(t *testing.T) {
			w := newStuckWatch(time.Second / hz)
			w.setMissing("")
			second := 0
			var said []event.Notice
			for _, look := range test.looks {
				second += 1 + look.later
				queues := bpf.XentraceQueues{Jiffies: uint64(hz * second), Ready: 1, Count: 1}
				queues.Queue[0].TransStart = uint64(hz * look.packet)
				if look.stopped {
					queues.Queue[0].Stopped = 1
				}
				if look.down {
					queues.Ready = 0
				}
				said = append(said, w.poll(key, !look.gone, &queues)...)
			}
			checkSaid(t, said, test.want)
			totals := event.Totals{Interfaces: []event.InterfaceTotals{{Device: event.Device{Index: key.index, NetNS: key.netns}}}, Missing: map[string]string{}}
			w.fill(&totals)
			if i := &totals.Interfaces[0]; i.Stuck == nil || *i.Stuck != test.lasts || i.StuckNow != test.now {
				t.Errorf("stuck for %v, and still: %v; want %v, %v", i.Stuck, i.StuckNow, test.lasts, test.now)
			}
		})
	}
}

// change is a notice of a queue, and after how many seconds.
type change struct {
	id      event.NoticeID
	queue   int
	seconds int64
}

func checkSaid(t *testing.T, said []event.Notice, want []change) {
	t.Helper()
	var got []change
	for _, n := range said {
		got = append(got, change{n.ID, *n.Queue, (n.DurationMS + 500) / 1000})
	}
	if !slices.Equal(got, want) {
		t.Errorf("notices %v, want %v", got, want)
	}
}

// Each queue is judged by itself, and those that the interface no longer uses
// are not.
func TestStuckWatchOfTwoQueues(t *testing.T) {
	w := newStuckWatch(time.Millisecond)
	w.setMissing("")
	key := deviceKey{2, 1}
	queues := bpf.XentraceQueues{Ready: 1, Count: 2}
	queues.Queue[0].TransStart, queues.Queue[1].TransStart = 1000, 1000
	queues.Queue[1].Stopped = 1
	var said []event.Notice
	for range 6 {
		queues.Jiffies += 1000
		queues.Queue[0].TransStart = queues.Jiffies
		said = append(said, w.poll(key, true, &queues)...)
	}
	checkSaid(t, said, []change{{event.NoticeQueueStuck, 1, 3}})
	queues.Count = 1
	for range 6 {
		queues.Jiffies += 1000
		said = append(said, w.poll(key, true, &queues)...)
	}
	if len(said) != 1 {
		t.Errorf("said of a queue that is not in use: %+v", said[1:])
	}
}

func loopback(t *testing.T) deviceKey {
	t.Helper()
	namespace, err := netdev.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = namespace.Close() }()
	lo, err := namespace.ByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return deviceKey{lo.Index, lo.Namespace}
}

// The reader finds the interfaces of this machine by index and namespace.
func TestQueueReader(t *testing.T) {
	need.Root(t, "to load BPF programs")
	reader, err := newQueueReader(kernel.NewTypes())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.close()
	key := loopback(t)
	queues, there, err := reader.read(key)
	if err != nil || !there {
		t.Fatalf("loopback: there %v, %v", there, err)
	}
	if queues.Count != 1 || queues.Jiffies == 0 || queues.Queue[0].Stopped != 0 {
		t.Errorf("loopback has %d queues, the first stopped: %d; jiffies %d", queues.Count, queues.Queue[0].Stopped, queues.Jiffies)
	}
	for _, other := range []deviceKey{{key.index + 100_000, key.netns}, {key.index, 1}} {
		if _, there, err := reader.read(other); err != nil || there {
			t.Errorf("interface %d of namespace %d: there %v, %v, want it not there", other.index, other.netns, there, err)
		}
	}
}
