//go:build xenlab

package guest

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"xentrace/test/tool"
)

// probeArgs is a command line of probe.
func probeArgs(t *testing.T, backend string, args ...string) []string {
	t.Helper()
	return append([]string{program(t), "probe", "-o", "json", "--backend", backend}, args...)
}

// defaultRoutes makes the peer the default gateway for the rest of the test.
func defaultRoutes(t *testing.T) {
	t.Helper()
	for _, route := range [][]string{
		{"route", "add", "default", "via", env(t, "XENTRACE_PEER")},
		{"-6", "route", "add", "default", "via", env(t, "XENTRACE_PEER6")},
	} {
		if out, err := exec.Command("ip", route...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", route, err, out)
		}
		t.Cleanup(func() {
			route[len(route)-4] = "del"
			if out, err := exec.Command("ip", route...).CombinedOutput(); err != nil {
				t.Errorf("ip %v: %v\n%s", route, err, out)
			}
		})
	}
}

// expectedProbe is what this driver does with a datagram of that many slots.
func expectedProbe(t *testing.T, backend string, slots int) (verdict, cause, answer string, status int) {
	t.Helper()
	answer = "accepted"
	if !seesResponses(t, backend) {
		answer = "null"
	}
	driver := env(t, "XENTRACE_LAB_DRIVER")
	switch {
	case slots <= limit, driver == "nocheck" && slots <= acceptedSlots:
		return "sent", "null", answer, 0
	case driver == "prefix":
		return "dropped", "too_many_slots", "null", 1
	case driver == "nocheck" && answer == "accepted":
		return "rejected", "null", "rejected", 1
	case driver == "nocheck":
		return "sent", "null", answer, 0
	case driver == "stock":
		return "linearized", "null", answer, 0
	}
	t.Skipf("what the driver %s does with a probe is not this test's", driver)
	return "", "", "", 0
}

// checkProbe runs a probe and compares what it says with what this driver does, and
// with what the driver counted.
func checkProbe(t *testing.T, backend string, wanted int, args ...string) *tool.Probe {
	t.Helper()
	atLeast := wanted
	if wanted == 0 {
		wanted, atLeast = 27, limit+1
	}
	verdict, cause, answer, status := expectedProbe(t, backend, wanted)
	dropped := counter(t, "tx_dropped")
	ran := tool.RunProbe(t, probeArgs(t, backend, args...)...)
	dropped = counter(t, "tx_dropped") - dropped
	p := ran.Only(t)
	t.Logf("%s: %s (%s), %d slots, answer %s, attempt %d, status %d, tx_dropped +%d", backend,
		tool.Text(p.Verdict), tool.Text(p.Cause), *p.Slots, tool.Text(p.Answer), p.Attempts, ran.Status, dropped)
	if tool.Text(p.Verdict) != verdict || tool.Text(p.Cause) != cause || tool.Text(p.Answer) != answer || ran.Status != status {
		t.Errorf("verdict %s, cause %s, answer %s, status %d: want %s, %s, %s, %d\n%s%s", tool.Text(p.Verdict), tool.Text(p.Cause),
			tool.Text(p.Answer), ran.Status, verdict, cause, answer, status, ran.Stdout, ran.Stderr)
	}
	if *p.Slots < atLeast || p.Limit != limit || p.Ifname != ifname || p.Attempts < 1 || p.Attempts > 32 {
		t.Errorf("%d slots of %d on %s in %d attempts: want at least %d, of %d, on %s", *p.Slots, p.Limit, p.Ifname, p.Attempts, atLeast, limit, ifname)
	}
	if want := uint64(status); verdict == "dropped" && (dropped < want || dropped > uint64(p.Attempts)) || verdict != "dropped" && dropped != 0 {
		t.Errorf("tx_dropped moved by %d in %d attempts", dropped, p.Attempts)
	}
	return p
}

// Without anything said the probe goes out of the only interface of xen-netfront to
// the default gateway, and reports what this driver does with it.
func TestProbe(t *testing.T) {
	defaultRoutes(t)
	for _, backend := range backends(t) {
		for _, family := range []string{"ipv4", "ipv6"} {
			t.Run(backend+" "+family, func(t *testing.T) {
				p := checkProbe(t, backend, 0, "--"+family)
				gateway := peerAddr(t, family).String()
				if p.Flow == nil || p.Flow.Family != family || p.Flow.Daddr != gateway || p.Flow.Dport != 9 || p.Flow.Proto != "udp" {
					t.Errorf("flow %+v: want udp to port 9 of %s", p.Flow, gateway)
				}
			})
		}
	}
}

// The limit is exact: 18 slots are sent as they are, 19 are not.
func TestProbeSlots(t *testing.T) {
	for _, backend := range backends(t) {
		for _, slots := range []int{limit, limit + 1} {
			t.Run(fmt.Sprintf("%s %d", backend, slots), func(t *testing.T) {
				p := checkProbe(t, backend, slots, "--to", env(t, "XENTRACE_PEER")+":9", "--slots", strconv.Itoa(slots))
				if *p.Slots != slots {
					t.Errorf("%d slots, want %d", *p.Slots, slots)
				}
			})
		}
	}
}

// What is said to be sent arrives at the peer, whole, and what is said to be lost does not.
func TestProbeArrives(t *testing.T) {
	for _, family := range []string{"ipv4", "ipv6"} {
		t.Run(family, func(t *testing.T) {
			verdict, _, _, status := expectedProbe(t, "auto", 27)
			before := ask(t, "counts").Sink("udp", family, udpRocketPort).Datagrams
			ran := tool.RunProbe(t, probeArgs(t, "auto", "--count", "5", "--to", netip.AddrPortFrom(peerAddr(t, family), udpRocketPort).String())...)
			if len(ran.Lines) != 5 || ran.Status != status {
				t.Fatalf("%d lines, status %d, want 5 and %d:\n%s", len(ran.Lines), ran.Status, status, ran.Stderr)
			}
			var want uint64
			arrives := verdict == "linearized"
			for range ran.Lines {
				if arrives {
					want++
				}
			}
			got := received(t, "udp", family, udpRocketPort, (before+want)*1120).Datagrams - before
			if got != want {
				t.Errorf("%d of 5 arrived, want %d (%s)", got, want, verdict)
			}
		})
	}
}

// The text says it in a sentence, and how many of several were lost.
func TestProbeText(t *testing.T) {
	verdict, cause, _, status := expectedProbe(t, "auto", 27)
	ran := tool.RunProbe(t, program(t), "probe", "--count", "3", "--to", env(t, "XENTRACE_PEER"))
	t.Logf("status %d\n%s%s", ran.Status, ran.Stdout, ran.Stderr)
	line := ifname + ": " + verdict
	if cause != "null" {
		line += " " + cause
	}
	if n := strings.Count(ran.Stdout, line+", 2"); n != 3 || ran.Status != status {
		t.Errorf("%d lines that begin with %q and status %d, want 3 and %d", n, line, ran.Status, status)
	}
	if want := fmt.Sprintf("\n%d of 3 lost\n", 3*status); !strings.HasSuffix(ran.Stdout, want) {
		t.Errorf("does not end in %q", want)
	}
}

// With scatter-gather off a small datagram whose head straddles a page boundary is dropped,
// where the kernel has such heads; else the probe says that it met none.
func TestProbeScatterGatherOff(t *testing.T) {
	scatterGather(t, "off")
	t.Cleanup(func() { scatterGather(t, "on") })
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			watch := tool.Start(t, program(t), "watch", "-o", "json", "--backend", "tracepoint")
			before := counter(t, "tx_dropped")
			ran := tool.RunProbe(t, probeArgs(t, backend, "--to", env(t, "XENTRACE_PEER"))...)
			all := counter(t, "tx_dropped") - before
			dropped, ports := droppedTo(t, watch.Stop(), discardPort)
			p := ran.Only(t)
			t.Logf("%s (%s), attempt %d, %d dropped, tx_dropped +%d", tool.Text(p.Verdict), tool.Text(p.Cause), p.Attempts, dropped, all)
			if dropped > all || ports > 1 {
				t.Errorf("drops of %d attempts, want those of the last", ports)
			}
			switch tool.Text(p.Verdict) {
			case "dropped":
				// An attempt is a few datagrams, of which more than one may have such a head.
				if tool.Text(p.Cause) != "sg_off" || *p.Slots != 2 || ran.Status != 1 || dropped < 1 || dropped > 8 {
					t.Errorf("cause %s, %d slots, status %d, %d dropped: want sg_off, 2, 1, 1 to 8", tool.Text(p.Cause), *p.Slots, ran.Status, dropped)
				}
			case "sent":
				if *p.Slots != 1 || p.Attempts != 32 || ran.Status != 0 || dropped != 0 {
					t.Errorf("%d slots, attempt %d, status %d, %d dropped: want 1, 32, 0, 0", *p.Slots, p.Attempts, ran.Status, dropped)
				}
				if smallHeads(t) {
					t.Error("no head straddled a page boundary, though they do on this kernel with two CPUs")
				}
			default:
				t.Errorf("verdict %s, want dropped or sent", tool.Text(p.Verdict))
			}
		})
	}
	if ran := tool.RunProbe(t, probeArgs(t, "auto", "--slots", "19", "--to", env(t, "XENTRACE_PEER"))...); ran.Status != 3 || !strings.Contains(ran.Stderr, "scatter-gather is off") {
		t.Errorf("--slots 19: status %d, want 3:\n%s", ran.Status, ran.Stderr)
	}
}

// droppedTo is how many packets to a port were dropped, and from how many ports. Others
// that had to be, with scatter-gather off, are the end of connections to the peer.
func droppedTo(t *testing.T, watched tool.Output, port int) (packets uint64, ports int) {
	t.Helper()
	from := map[int]bool{}
	for i := range watched.Packets {
		switch p := &watched.Packets[i]; {
		case p.Verdict != "dropped":
		case p.Flow == nil || p.Flow.Dport != port:
			t.Logf("another drop: %s", p)
		default:
			packets++
			from[p.Flow.Sport] = true
		}
	}
	return packets, len(from)
}
