package output

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xentrace/internal/event"
)

func dropAt(ms int, port uint16, cause event.Cause) *event.Packet {
	return &event.Packet{
		Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond), Interface: event.Device{Name: "eth0", Index: 2},
		Verdict: event.Dropped, Cause: cause, Slots: 19, Limit: 18, Len: 1400,
		Flow: &event.Flow{Proto: 17, Source: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port), Destination: netip.MustParseAddrPort("10.0.0.2:53")},
	}
}

// lines are the times and what is after the flow of each line but the header.
func repeatLines(t *testing.T, emit func(*Repeats)) []string {
	t.Helper()
	var out bytes.Buffer
	emit(NewRepeats(&out, text(100), true))
	var lines []string
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "TIME") {
			fields := strings.Fields(line)
			_, flow, _ := strings.Cut(line, " udp")
			lines = append(lines, fields[0]+" "+fields[3]+strings.TrimRight(flow, "\n"))
		}
	}
	return lines
}

func TestRepeatsBecomeALine(t *testing.T) {
	for name, test := range map[string]struct {
		packets []*event.Packet
		want    string
	}{
		"one":                         {[]*event.Packet{dropAt(0, 1, event.SGOff)}, "12:00:00.000 sg_off"},
		"three of a flow":             {[]*event.Packet{dropAt(0, 1, event.SGOff), dropAt(100, 1, event.SGOff), dropAt(900, 1, event.SGOff)}, "12:00:00.000 sg_off; 12:00:00.900 sg_off  2 more in 0.9 s"},
		"two flows":                   {[]*event.Packet{dropAt(0, 1, event.SGOff), dropAt(1, 2, event.SGOff), dropAt(2, 1, event.SGOff)}, "12:00:00.000 sg_off; 12:00:00.001 sg_off; 12:00:00.002 sg_off  1 more in 0.0 s"},
		"two causes":                  {[]*event.Packet{dropAt(0, 1, event.SGOff), dropAt(1, 1, event.TooBig)}, "12:00:00.000 sg_off; 12:00:00.001 too_big"},
		"a second later":              {[]*event.Packet{dropAt(0, 1, event.SGOff), dropAt(1000, 1, event.SGOff)}, "12:00:00.000 sg_off; 12:00:01.000 sg_off"},
		"repeats, and a second later": {[]*event.Packet{dropAt(0, 1, event.SGOff), dropAt(500, 1, event.SGOff), dropAt(1200, 1, event.SGOff)}, "12:00:00.000 sg_off; 12:00:00.500 sg_off  1 more in 0.5 s; 12:00:01.200 sg_off"},
	} {
		got := repeatLines(t, func(r *Repeats) {
			for _, p := range test.packets {
				if err := r.Emit(p); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Emit(&event.Notice{}); err != nil { // as a summary does
				t.Fatal(err)
			}
		})
		if got := strings.Join(got, "; "); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// Without later packets the line comes when the second is over.
func TestRepeatsAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := repeatLines(t, func(r *Repeats) {
			for range 5 {
				_ = r.Emit(dropAt(0, 1, event.SGOff))
			}
			time.Sleep(repeatWindow)
			synctest.Wait()
		})
		if want := "12:00:00.000 sg_off; 12:00:00.000 sg_off  4 more in 0.0 s"; strings.Join(got, "; ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// Of a recording the clock does not matter: read slowly it gives the same lines.
func TestRepeatsOfARecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		r := NewRepeats(&out, text(100), false)
		for n := range 5 {
			_ = r.Emit(dropAt(100*n, 1, event.SGOff))
			time.Sleep(2 * repeatWindow)
		}
		_ = r.Emit(&event.Notice{})
		if got := out.String(); strings.Count(got, "sg_off") != 2 || !strings.Contains(got, "  4 more in 0.4 s\n") {
			t.Errorf("%q", got)
		}
	})
}

// Connections in one tunnel have one outer flow; the inner flow distinguishes them.
func TestRepeatsInATunnel(t *testing.T) {
	var out bytes.Buffer
	r := NewRepeats(&out, text(200), true)
	for n := range 6 {
		p := dropAt(n, 1, event.SGOff)
		p.Inner = tcpFlow("10.0.0.5:49152", "10.0.0.9:5001")
		p.Inner.Destination = netip.AddrPortFrom(p.Inner.Destination.Addr(), uint16(5001+n%2))
		_ = r.Emit(p)
	}
	_ = r.Emit(&event.Notice{})
	for _, part := range []string{"(inner 10.0.0.5:49152 > 10.0.0.9:5001 tcp)", "(inner 10.0.0.5:49152 > 10.0.0.9:5002 tcp)"} {
		if all := out.String(); strings.Count(all, part) != 2 || strings.Count(all, "2 more in") != 2 {
			t.Errorf("%s: want a line and a count of 2 more in\n%s", part, all)
		}
	}
}

// Every packet is in a line or in a count, however many flows there are.
func TestRepeatsLoseNothing(t *testing.T) {
	const flows, packets = 3 * maxRepeats, 20_000
	total := 0
	for _, line := range repeatLines(t, func(r *Repeats) {
		for n := range packets {
			_ = r.Emit(dropAt(n/10, uint16(1+n*7%flows), event.SGOff))
		}
		_ = r.Emit(&event.Notice{})
	}) {
		more := 1
		if _, after, is := strings.Cut(line, "  "); is {
			_, _ = fmt.Sscanf(strings.ReplaceAll(after, ",", ""), "%d more", &more)
		}
		total += more
	}
	if total != packets {
		t.Errorf("%d packets in lines and counts, want %d", total, packets)
	}
}
