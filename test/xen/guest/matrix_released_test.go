//go:build xenlab && matrix

package guest

import (
	"os/exec"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
	"xentrace/test/xen/cell"
)

// released has packets in flight when the interface is disconnected: dom0 stops
// taking them, the device is unbound, and the driver frees what is on its ring.
// Nobody counts that as a drop, and neither does xentrace.
func released(t *testing.T, g *group, backend string) {
	const n = 60 // fit into the ring
	r := &g.rows[0]
	ask(t, "reset")
	quiet(t)
	run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", backend)
	time.Sleep(settle)
	begin := counters(t)
	ordinary := inRounds(t, 0, nil)
	done := dom0(t, "stall 6")
	waitForStall(t)
	datagrams, err := rocket.NewDatagrams(t.Context(), r.address(t), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := datagrams.Send(t.Context(), n, 100); err != nil {
		t.Fatal(err)
	}
	if err := datagrams.Close(); err != nil {
		t.Fatal(err)
	}
	quiet(t)
	moved := counters(t).since(begin)
	command(t, "netfront", "unbind")
	time.Sleep(settle)
	output := run.Stop()
	command(t, "netfront", "bind")
	done()
	judgeReleased(t, g, backend, &output, moved, sent{path: n, ordinary: ordinary})
}

// waitForStall returns once dom0 takes nothing any more: an echo request has no answer.
func waitForStall(t *testing.T) {
	t.Helper()
	for range 100 {
		if exec.Command("ping", "-c", "1", "-W", "1", env(t, "XENTRACE_PEER")).Run() != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("dom0 still answers echo requests: it does not stall")
}

// judgeReleased: the interface counted everything as sent, and some did not arrive.
func judgeReleased(t *testing.T, g *group, backend string, output *tool.Output, moved interfaceCounters, what sent) {
	t.Helper()
	s := g.session(t, backend, output, moved)
	w := &walk{row: &g.rows[0], sent: what, moved: moved, said: map[string]uint64{}}
	attribute(t, &s, []*walk{w}, output.Packets)
	answer := ask(t, "counts")
	w.path = answer.Sink("udp", "ipv4", w.port).Datagrams
	w.ordinary = answer.Sink("udp", "ipv4", ordinaryPort).Datagrams
	v := &judgement{Cell: newCell(t, w.row.path, backend), faults: sessionFaults(&s, output)}
	v.Sent = cell.Traffic{Path: what.path, Ordinary: what.ordinary}
	v.Arrived = cell.Traffic{Path: w.path, Ordinary: w.ordinary}
	v.TxPackets, v.TxDropped, v.Said = moved.packets, moved.dropped, w.said
	v.Struck = what.path - w.path
	if v.Struck < leastStruck {
		v.wrong("%d packets were in flight, want at least %d", v.Struck, leastStruck)
	}
	if v.TxDropped != 0 || s.Records != 0 {
		v.wrong("tx_dropped moved by %d, %d records, want none", v.TxDropped, s.Records)
	}
	if v.Arrived.Ordinary != v.Sent.Ordinary {
		v.wrong("%d ordinary packets arrived, want %d", v.Arrived.Ordinary, v.Sent.Ordinary)
	}
	v.report(t)
	writeSession(t, s)
}
