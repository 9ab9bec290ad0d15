package pcapng

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/header"
	"xentrace/test/need"
)

const script = "lua_script:../../packaging/xentrace.lua"

// tshark runs it on a file and returns its lines. Any complaint fails the test.
func tshark(t *testing.T, file []byte, args ...string) []string {
	t.Helper()
	need.Tool(t, "tshark")
	path := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return lines(t, exec.Command("tshark", append([]string{"-n", "-r", path}, args...)...))
}

func lines(t *testing.T, c *exec.Cmd) []string {
	t.Helper()
	var complaints bytes.Buffer
	c.Stderr = &complaints
	c.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := c.Output()
	for line := range strings.Lines(complaints.String()) {
		if !strings.HasPrefix(line, "Running as user") {
			t.Errorf("tshark complains: %s", line)
		}
	}
	if err != nil {
		t.Fatalf("%v: %v", c.Args, err)
	}
	return slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool { return line == "" })
}

// written is a file of these events on the machine of start.
func written(t *testing.T, events ...event.Event) []byte {
	t.Helper()
	var file bytes.Buffer
	emit(t, New(&file, start()), events...)
	return file.Bytes()
}

func gso(n int) *event.Packet {
	p := dropped(n)
	p.Len, p.Flow.SeqLength, p.GSOSize, p.GSOSegs = 14+20+32+14480, 14480, 1448, 10
	return p
}

func TestTsharkReadsThePacketOptions(t *testing.T) {
	read := dropped(1)
	read.Header, read.Process, read.Queue = header.Of(read).Bytes, nil, 3
	file := written(t, dropped(0), read, gso(2))
	got := tshark(t, file, "-T", "fields", "-E", "separator=|", "-E", "aggregator=;", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len",
		"-e", "frame.packet_flags", "-e", "frame.packet_flags_direction", "-e", "frame.interface_queue", "-e", "frame.packet_id", "-e", "frame.interface_name",
		"-e", "frame.verdict", "-e", "frame.comment")
	const made = ";header reconstructed: only the length, addresses, ports and sequence number are the packet's"
	want := []string{
		"1772366400.123456789|1514|66|0x00000202|0x00000002|1|1|eth0||dropped: too_many_slots, 35/18 slots, nginx[812]" + made,
		"1772366400.124456789|1514|66|0x00000002|0x00000002|3|2|eth0||dropped: too_many_slots, 35/18 slots",
		"1772366400.125456789|14546|66|0x00000a02|0x00000002|1|3|eth0||dropped: too_many_slots, 35/18 slots, nginx[812]" + made,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// flowEvent is the stall of a packet's flow.
func flowEvent(p *event.Packet) *event.FlowEvent {
	return &event.FlowEvent{Time: p.Time, Flow: event.FlowHistory{
		FlowKey:   event.FlowKey{NetNS: p.Interface.NetNS, Proto: 6, Source: p.Flow.Source, Destination: p.Flow.Destination},
		Interface: p.Interface, State: event.Stalled, Drops: 3, Process: p.Process,
	}}
}

// Whatever else is written, tshark reads without complaint, and shows no packet for it.
func TestTsharkReadsAllEvents(t *testing.T) {
	bad := dropped(3)
	bad.Process.Comm = "\x00\xff\x1b[31m, x[1]"
	bad.Interface.Name = "e\xff\x00"
	notIP := &event.Packet{Time: when, Interface: eth1, Verdict: event.Bounced, Slots: 1, Limit: 18, Len: 42, EtherType: 0x0806}
	unknown := &event.Packet{Interface: eth1, Verdict: event.Linearized, Slots: 19, Limit: 18, Len: 9000}
	totals := event.Totals{Time: when, Duration: 1e9, Interfaces: []event.InterfaceTotals{{Device: eth0, Counts: event.Counts{Packets: 9, Dropped: 1}}}}
	file := written(t,
		dropped(0), flowEvent(dropped(0)), &event.Notice{Time: when, ID: event.NoticeSuspended, DurationMS: 5000},
		&event.Notice{Time: when, ID: event.NoticeInterfaceAdded, Device: eth1, Driver: "xen-netfront"},
		bad, notIP, unknown, &event.Interval{Totals: totals}, start(), &event.Finding{}, &event.Summary{Totals: totals, Filter: []string{"--port 80"}, LeftOut: 5},
	)
	got := tshark(t, file, "-T", "fields", "-e", "frame.number", "-e", "frame.len")
	if want := []string{"1\t1514", "2\t1514", "3\t42", "4\t9000"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	blocks := strings.Join(tshark(t, file, "-X", "read_format:MIME Files Format", "-V"), "\n")
	for _, comment := range []string{
		"10.0.0.1:40000 &gt; 10.0.0.9:5001 tcp stalled: nothing acknowledged", "events left out 5 by --port 80",
		"packets 9, over the slot limit 0, dropped 1", "5.0 s",
	} {
		if !strings.Contains(blocks, strings.ReplaceAll(comment, "&gt;", ">")) {
			t.Errorf("no block has the comment %q", comment)
		}
	}
	if strings.Contains(blocks, "Malformed") {
		t.Errorf("a block is malformed:\n%s", blocks)
	}
}

// Names cannot pass for something else: what the dissector takes from them is the name.
func TestLuaFields(t *testing.T) {
	linearized, elsewhere, hostile, nobody := dropped(1), dropped(2), dropped(3), dropped(4)
	linearized.Verdict, linearized.Cause = event.Linearized, event.CauseNone
	elsewhere.Layer, elsewhere.Cause, elsewhere.Reason = event.LayerElsewhere, event.CauseNone, "QDISC_DROP"
	hostile.Cause, hostile.Process = event.SGOff, &event.Process{PID: 9, Comm: "too_many_slots, 1/2 slots, x[1]"}
	nobody.Process = nil
	file := written(t, dropped(0), linearized, elsewhere, hostile, nobody)
	fields := []string{"-X", script, "-T", "fields", "-E", "separator=|"}
	for _, name := range []string{"frame.number", "xentrace.verdict", "xentrace.cause", "xentrace.slots", "xentrace.limit", "xentrace.comm", "xentrace.pid"} {
		fields = append(fields, "-e", name)
	}
	got := tshark(t, file, fields...)
	want := []string{
		"1|dropped|too_many_slots|35|18|nginx|812", "2|linearized||35|18|nginx|812", "3|dropped||35|18|nginx|812",
		"4|dropped|sg_off|35|18|too_many_slots, 1/2 slots, x[1]|9", "5|dropped|too_many_slots|35|18||",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, test := range []struct {
		filter string
		script bool
		want   []string
	}{
		{`xentrace.cause == "too_many_slots"`, true, []string{"1", "5"}},
		{`xentrace.cause`, true, []string{"1", "4", "5"}},
		{`xentrace.slots > xentrace.limit && xentrace.verdict == "linearized"`, true, []string{"2"}},
		{`xentrace.pid == 9`, true, []string{"4"}},
		{`xentrace.comm == "nginx"`, true, []string{"1", "2", "3"}},
		{`frame.comment contains "dropped: too_many_slots,"`, false, []string{"1", "5"}},
		{`frame.comment contains "nginx["`, false, []string{"1", "2", "3"}},
	} {
		args := []string{"-Y", test.filter, "-T", "fields", "-e", "frame.number"}
		if test.script {
			args = append(args, "-X", script)
		}
		if got := tshark(t, file, args...); !slices.Equal(got, test.want) {
			t.Errorf("%s selects %v, want %v", test.filter, got, test.want)
		}
	}
}

// A block for each packet: a segment that is dropped again, being retransmitted, is one,
// and nothing else is.
func TestTCPAnalysisStaysRight(t *testing.T) {
	var events []event.Event
	for n := range 20 {
		events = append(events, dropped(n), flowEvent(dropped(n)))
	}
	big := gso(20)
	behind := dropped(30) // the segment behind the GSO packet
	behind.Flow.Seq = big.Flow.Seq + 14480
	again := dropped(300) // a retransmission timeout later
	again.Flow.Seq = big.Flow.Seq
	events = append(events, big, behind, again)
	for _, family := range []struct{ name, source, destination string }{
		{"IPv4", "10.0.0.1:40000", "10.0.0.9:5001"}, {"IPv6", "[fd00::1]:40000", "[fd00::9]:5001"},
	} {
		t.Run(family.name, func(t *testing.T) {
			for _, e := range events {
				if p, ok := e.(*event.Packet); ok {
					six := p.Flow.Source.Addr().Is6()
					p.Flow.Source, p.Flow.Destination = netip.MustParseAddrPort(family.source), netip.MustParseAddrPort(family.destination)
					if !six && p.Flow.Source.Addr().Is6() {
						p.Len += 20
					}
				}
			}
			file := written(t, events...)
			for _, filter := range []string{"tcp.analysis.flags", "tcp.analysis.retransmission"} {
				if got := tshark(t, file, "-Y", filter, "-T", "fields", "-e", "frame.number"); !slices.Equal(got, []string{"23"}) {
					t.Errorf("%s flags %q, want the retransmission alone, 23", filter, got)
				}
			}
			if n := len(tshark(t, file, "-T", "fields", "-e", "tcp.len", "-Y", "tcp.len == 1448")); n != 22 {
				t.Errorf("%d segments of 1448 bytes, want 22", n)
			}
			if n := len(tshark(t, file, "-Y", "tcp.len == 14480")); n != 1 {
				t.Errorf("%d segments of 14480 bytes, want 1", n)
			}
		})
	}
}

// tshark at the other end of a pipe shows a packet before the next one comes.
func TestTsharkReadsLive(t *testing.T) {
	need.Tool(t, "tshark")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	c := exec.Command("tshark", "-n", "-l", "-r", "-", "-T", "fields", "-e", "tcp.seq_raw")
	c.Stdin = reader
	c.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	reader.Close()
	sink, shown := New(writer, start()), bufio.NewScanner(out)
	for n, want := range []string{"1000", "2448", "3896"} {
		if err := sink.Emit(dropped(n)); err != nil {
			t.Fatal(err)
		}
		if !shown.Scan() || shown.Text() != want {
			t.Fatalf("tshark shows %q (%v), want %s", shown.Text(), shown.Err(), want)
		}
	}
	writer.Close()
	if shown.Scan() || c.Wait() != nil {
		t.Errorf("tshark ends with %q", shown.Text())
	}
}

// Packets of the boot before and of the one after are in one file.
func TestTsharkReadsTwoBoots(t *testing.T) {
	rebooted := start()
	rebooted.BootID, rebooted.Interfaces = "boot-2", []event.StartInterface{{Device: eth1, Driver: "veth", MTU: 9000}, {Device: eth0, Driver: "xen-netfront", MTU: 9000}}
	file := written(t, dropped(0), rebooted, dropped(1))
	got := tshark(t, file, "-T", "fields", "-E", "separator=|", "-e", "frame.number", "-e", "frame.interface_name", "-e", "frame.interface_description")
	want := []string{"1|eth0|netns 4026531840, driver xen-netfront, MTU 1500", "2|eth0|netns 4026531840, driver xen-netfront, MTU 9000"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	comments := strings.Join(tshark(t, file, "-X", "read_format:MIME Files Format", "-V"), "\n")
	if !strings.Contains(comments, "recording of another boot, host: web1, boot id: boot-2, command: xentrace watch") {
		t.Error("no comment on the second boot")
	}
}
