//go:build xenlab

package guest

import (
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// Traffic of the test of drops elsewhere.
const (
	elsewherePort    = 7013
	elsewhereLength  = 500
	elsewhereGood    = 4000 // datagrams that find an empty queue
	elsewhereCrowd   = 1500 // and that do not
	elsewhereRockets = 20
)

// hooksOfDrops are the ways of noticing drops outside the driver.
var hooksOfDrops = []string{"tracepoint", "kprobe"}

// queues are those that the crowd is too much for. The second links its packets by
// what is the device in others.
var queues = []string{"tbf rate 2mbit burst 2000 limit 12000", "netem limit 10 delay 20ms"}

// Packets that a queueing discipline drops are reported, each once, and nothing else
// is but the driver's own drops: thousands of good packets are freed "as dropped" by
// the transmit completion meanwhile.
func TestDropsElsewhere(t *testing.T) {
	for _, backend := range backends(t) {
		for _, hook := range hooksOfDrops {
			t.Run(backend+", "+hook, func(t *testing.T) {
				checkElsewhere(t, backend, hook)
			})
		}
	}
}

// tc runs the program of that name.
func tc(t *testing.T, arguments string) string {
	t.Helper()
	out, err := exec.Command("tc", strings.Fields(arguments)...).CombinedOutput()
	if err != nil {
		t.Fatalf("tc %s: %v\n%s", arguments, err, out)
	}
	return string(out)
}

// queueDropped is what the root queueing discipline says it dropped.
func queueDropped(t *testing.T) uint64 {
	t.Helper()
	root := tc(t, "-s qdisc show dev "+ifname+" root")
	found := regexp.MustCompile(`dropped (\d+)`).FindStringSubmatch(root)
	if found == nil {
		t.Fatalf("no count of drops in %q", root)
	}
	n, err := strconv.ParseUint(found[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func checkElsewhere(t *testing.T, backend, hook string) {
	t.Helper()
	const all = elsewhereRockets + elsewhereGood + 2*elsewhereCrowd
	to := netip.AddrPortFrom(peerAddr(t, "ipv4"), elsewherePort)
	ask(t, "reset")
	run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", backend, "--drops", "all", "--drops-hook", hook)
	time.Sleep(settle)
	packets, dropped := counter(t, "tx_packets"), counter(t, "tx_dropped")
	sendRockets(t, to, elsewhereRockets)
	sendOrdinary(t, elsewherePort, elsewhereGood)
	var byQueue uint64
	for _, queue := range queues {
		byQueue += crowd(t, to, queue)
	}
	packets, dropped = counter(t, "tx_packets")-packets, counter(t, "tx_dropped")-dropped
	output := run.Stop()
	i := output.Only(t)
	t.Logf("%d sent, %d dropped by the driver, %d by the queue; %d records, reasons %v, ready after %d ms, %d KiB",
		packets, dropped, byQueue, len(output.Packets), i.Reasons, run.Ready.Milliseconds(), output.MaxRSS)
	checkElsewhereTotals(t, &output, packets, dropped, byQueue)
	checkElsewhereRecords(t, &output, dropped, byQueue)
	if arrived := received(t, "udp", "ipv4", elsewherePort, 0).Datagrams; arrived+byQueue+dropped != all {
		t.Errorf("%d arrived, %d dropped by the queue, %d by the driver: %d were sent", arrived, byQueue, dropped, all)
	}
}

// crowd puts the queue before the interface, sends more than it takes, and returns
// what it dropped by its own count.
func crowd(t *testing.T, to netip.AddrPort, queue string) uint64 {
	t.Helper()
	tc(t, "qdisc replace dev "+ifname+" root "+queue)
	defer tc(t, "qdisc del dev "+ifname+" root")
	datagrams, err := rocket.NewDatagrams(t.Context(), to, rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagrams.Close() }()
	if err := datagrams.Send(t.Context(), elsewhereCrowd, elsewhereLength); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settle) // and the queue runs empty
	dropped := queueDropped(t)
	if dropped == 0 {
		t.Errorf("%s dropped nothing", queue)
	}
	return dropped
}

func sendRockets(t *testing.T, to netip.AddrPort, n int) {
	t.Helper()
	sender, err := rocket.NewUDP(t.Context(), to, rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sender.Close() }()
	for range n {
		if _, err := sender.Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func checkElsewhereTotals(t *testing.T, output *tool.Output, packets, dropped, byQueue uint64) {
	t.Helper()
	i := output.Only(t)
	if packets < elsewhereGood {
		t.Errorf("%d packets sent, want at least %d", packets, elsewhereGood)
	}
	if i.Elsewhere == nil || *i.Elsewhere != byQueue {
		t.Errorf("%v dropped elsewhere: the queue counted %d", i.Elsewhere, byQueue)
	}
	if i.Dropped != dropped || i.TxDroppedDelta == nil || *i.TxDroppedDelta != dropped || i.Counted() != packets+dropped {
		t.Errorf("%d dropped by the driver of %d, tx_dropped_delta %v: it sent %d and counted %d", i.Dropped, i.Counted(), i.TxDroppedDelta, packets, dropped)
	}
	var sum uint64
	for _, n := range i.Reasons {
		sum += n
	}
	switch {
	case !tellsReasons(t) && (i.Reasons != nil || output.Summary.Missing["reasons"] == ""):
		t.Errorf("reasons %v, missing %v: this kernel tells none", i.Reasons, output.Summary.Missing)
	case tellsReasons(t) && sum != byQueue:
		t.Errorf("reasons %v, want %d in all", i.Reasons, byQueue)
	}
	if output.Summary.Lost.Ring != 0 || output.Summary.Events != uint64(len(output.Packets)) {
		t.Errorf("%d events, %d records, %d lost", output.Summary.Events, len(output.Packets), output.Summary.Lost.Ring)
	}
}

// tellsReasons: the kernels of the lab but 5.10 do.
func tellsReasons(t *testing.T) bool {
	t.Helper()
	return !strings.HasPrefix(env(t, "XENTRACE_LAB_KERNEL"), "5.10.")
}

func checkElsewhereRecords(t *testing.T, output *tool.Output, dropped, byQueue uint64) {
	t.Helper()
	layers := make(map[string]uint64)
	for i := range output.Packets {
		p := &output.Packets[i]
		if p.Verdict == "linearized" || p.Verdict == "bounced" {
			continue
		}
		layers[p.Layer]++
		if p.Layer == "elsewhere" {
			checkQueueDrop(t, p)
		} else if text(p.Cause) != "too_many_slots" || p.Reason != nil || len(p.Stack) != 0 {
			t.Fatalf("record %s: want a rocket that the driver dropped", p)
		}
		if t.Failed() {
			return
		}
	}
	if layers["elsewhere"] != byQueue || layers["driver"] != dropped || len(layers) > 2 {
		t.Errorf("records of drops by layer %v: want %d elsewhere and %d by the driver", layers, byQueue, dropped)
	}
}

// checkQueueDrop checks the record of one of the crowd.
func checkQueueDrop(t *testing.T, p *tool.Packet) {
	t.Helper()
	if p.Verdict != "dropped" || p.Cause != nil || p.Ifname != ifname || p.Flow == nil || p.Flow.Dport != elsewherePort || p.Flow.Proto != "udp" {
		t.Errorf("record %s: want a datagram to port %d dropped on its way to %s", p, elsewherePort, ifname)
	}
	if p.Len != elsewhereLength+42 || p.Slots != p.SlotsOfParts() {
		t.Errorf("%d bytes, %d slots: want %d bytes, in the %d slots of its parts: %s", p.Len, p.Slots, elsewhereLength+42, p.SlotsOfParts(), p)
	}
	if reason := text(p.Reason); tellsReasons(t) != strings.HasPrefix(reason, "QDISC_DROP") {
		t.Errorf("reason %q", reason)
	}
	dropping := func(frame string) bool {
		return strings.HasPrefix(frame, "__dev_queue_xmit+") || strings.HasPrefix(frame, "__dev_xmit_skb+")
	}
	sending := func(frame string) bool { return strings.HasPrefix(frame, "udp_sendmsg+") }
	if len(p.Stack) == 0 || !dropping(p.Stack[0]) || !slices.ContainsFunc(p.Stack, sending) {
		t.Errorf("stack %q: want it to begin with __dev_queue_xmit, and udp_sendmsg in it", p.Stack)
	}
}

// Where the kernel hides its addresses, sent packets are still known from dropped
// ones; stacks have no names then, and that is said once.
func TestDropsElsewhereWithHiddenAddresses(t *testing.T) {
	restrict := func(value string) {
		if err := os.WriteFile("/proc/sys/kernel/kptr_restrict", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	before := readFile(t, "/proc/sys/kernel/kptr_restrict")
	restrict("2")
	defer restrict(before)
	run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", "tracepoint", "--drops", "all")
	sendOrdinary(t, elsewherePort, 1000)
	byQueue := crowd(t, netip.AddrPortFrom(peerAddr(t, "ipv4"), elsewherePort), queues[0])
	output := run.Stop()
	if i := output.Only(t); i.Elsewhere == nil || *i.Elsewhere != byQueue || uint64(len(output.Packets)) != byQueue {
		t.Errorf("%v dropped elsewhere, %d records: the queue counted %d", i.Elsewhere, len(output.Packets), byQueue)
	}
	for i := range output.Packets {
		if p := &output.Packets[i]; p.Layer != "elsewhere" || len(p.Stack) != 0 {
			t.Fatalf("record %s: want a drop elsewhere without a stack", p)
		}
	}
	if said := strings.Count(output.Stderr, "no stacks for drops outside the driver: "); said != 1 {
		t.Errorf("it is said %d times that there are no stacks: %s", said, output.Stderr)
	}
}

// Taking the interface away frees what it still holds. No packet is lost by that
// unless one waits in the queue.
func TestDisconnectDropsNothing(t *testing.T) {
	for _, hook := range hooksOfDrops {
		t.Run(hook, func(t *testing.T) {
			// fentry would hold the module.
			run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", "tracepoint", "--drops", "all", "--drops-hook", hook)
			sendOrdinary(t, elsewherePort, 1000)
			time.Sleep(settle)
			netfront(t, "unload")
			netfront(t, "load")
			sendOrdinary(t, elsewherePort, 1000)
			time.Sleep(settle)
			output := run.Stop()
			for i := range output.Packets {
				if p := &output.Packets[i]; p.Layer == "elsewhere" {
					t.Errorf("record of a drop elsewhere: %s", p)
				}
			}
			for _, i := range output.Summary.Interfaces {
				if i.Elsewhere == nil || *i.Elsewhere != 0 || i.Packets < 1000 {
					t.Errorf("%d packets, %v dropped elsewhere of %s: want 1000 and none", i.Packets, i.Elsewhere, i.Ifname)
				}
			}
		})
	}
}
