//go:build xenlab && matrix

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/test/tool"
	"xentrace/test/xen/cell"
)

// driverDir is where the runner puts the variants of the driver.
const driverDir = "drivers"

// TestMatrix walks every path of the driver under every backend, and writes a cell
// for each (package cell). A cell that does not agree fails the test as well.
func TestMatrix(t *testing.T) {
	countCopies(t)
	for _, g := range groups() {
		t.Run(g.name, func(t *testing.T) {
			if g.driver != "stock" && driverBuiltIn() {
				g.noDriver(t)
				return
			}
			g.load(t)
			for _, backend := range cell.Backends {
				t.Run(backend, func(t *testing.T) { g.run(t, backend) })
			}
		})
	}
}

// A group is paths that are walked in one run of xentrace, on one driver.
type group struct {
	name      string
	driver    string   // stock, or a variant's name
	untrusted bool     // the frontend is set not to trust its backend
	flags     []string // that the program is run with besides
	rows      []row
	// alone runs its rows in a way of its own instead.
	alone func(t *testing.T, g *group, backend string)
}

// load puts the group's driver in place of the one that is there.
func (g *group) load(t *testing.T) {
	t.Helper()
	unload(t)
	arguments := []string{"load"}
	if g.driver != "stock" {
		arguments = append(arguments, filepath.Join(driverDir, g.driver+".ko"))
	}
	command(t, append([]string{"netfront"}, arguments...)...)
	if g.untrusted || driverBuiltIn() {
		// The parameter is read when the interface connects, and stays with a driver that does.
		trusted := map[bool]string{false: "1", true: "0"}[g.untrusted]
		if err := os.WriteFile("/sys/module/xen_netfront/parameters/trusted", []byte(trusted), 0); err != nil {
			t.Fatal(err)
		}
		command(t, "netfront", "unbind")
		command(t, "netfront", "bind")
	}
	// A dom0 that is slow to take packets must not make the queue in front of the driver drop any.
	command(t, "ip", "link", "set", ifname, "txqueuelen", "20000")
	quiet(t)
}

// unload takes the driver away. What held it, a program that has just ended, may
// let go a moment later.
func unload(t *testing.T) {
	t.Helper()
	var out []byte
	for range 50 {
		if !driverLoaded() {
			return
		}
		var err error
		if out, err = exec.Command("netfront", "unload").CombinedOutput(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("netfront unload: %s", out)
}

// run walks the group's paths under one backend.
func (g *group) run(t *testing.T, backend string) {
	if !slices.Contains(backends(t), backend) {
		g.impossible(t, backend)
		return
	}
	if g.alone != nil {
		g.alone(t, g, backend)
		return
	}
	ask(t, "reset")
	time.Sleep(settle)
	run := tool.Start(t, slices.Concat([]string{program(t), "watch", "-o", "json", "--backend", backend}, g.flags)...)
	run.Says("over the slot limit", 1) // some causes are known once the driver's code is read
	time.Sleep(settle)
	begin := counters(t)
	var walks []*walk
	for i := range g.rows {
		walks = append(walks, g.rows[i].walk(t))
	}
	quiet(t)
	moved := counters(t).since(begin)
	output := run.Stop()
	s := g.session(t, backend, &output, moved)
	attribute(t, &s, walks, output.Packets)
	faults := sessionFaults(&s, &output)
	for _, w := range walks {
		w.missing = output.Summary.Missing[w.verdict]
		w.judge(t, backend, faults).report(t)
	}
	writeSession(t, s)
}

// impossible writes the cells of a backend that this kernel does not have, with
// the program's own words for it.
func (g *group) impossible(t *testing.T, backend string) {
	t.Helper()
	out, err := exec.Command(program(t), "watch", "--backend", backend, "-d", "1s").CombinedOutput()
	if exitCode(err) != 3 {
		t.Errorf("xentrace watch --backend %s: status %d, want 3: this kernel does not have what it needs\n%s", backend, exitCode(err), out)
	}
	g.writeImpossible(t, backend, strings.TrimSpace(string(out)))
}

// noDriver writes the cells of a driver that cannot be loaded.
func (g *group) noDriver(t *testing.T) {
	t.Helper()
	for _, backend := range cell.Backends {
		g.writeImpossible(t, backend, "the driver is part of this kernel: no other can be loaded in its place")
	}
}

func (g *group) writeImpossible(t *testing.T, backend, why string) {
	t.Helper()
	for _, r := range g.rows {
		c := newCell(t, r.path, backend)
		c.Status, c.Why = cell.Impossible, why
		write(t, c)
	}
}

// newCell begins a cell of this kernel.
func newCell(t *testing.T, path, backend string) cell.Cell {
	t.Helper()
	release := env(t, "XENTRACE_LAB_KERNEL")
	if guest := guestType(t); guest != "PV" {
		release += ", " + guest
	}
	return cell.Cell{
		Kernel: env(t, "XENTRACE_MATRIX_KERNEL"), Release: release,
		Path: path, Backend: backend, Said: map[string]uint64{},
	}
}

// write puts a cell into the test's output.
func write(t *testing.T, c cell.Cell) {
	t.Helper()
	if err := c.Write(os.Stdout); err != nil {
		t.Fatal(err)
	}
}

// writeSession puts the session into the test's output.
func writeSession(t *testing.T, s cell.Session) {
	t.Helper()
	if err := s.Write(os.Stdout); err != nil {
		t.Fatal(err)
	}
}

// session is what the run as a whole reported, and what the interface counted.
func (g *group) session(t *testing.T, backend string, output *tool.Output, moved interfaceCounters) cell.Session {
	t.Helper()
	i := output.Only(t)
	s := cell.Session{
		Kernel: env(t, "XENTRACE_MATRIX_KERNEL"), Name: g.name, Backend: backend,
		Counted: i.Counted(), Skipped: value(output.Summary.Lost.Recursion) + value(output.Summary.Lost.Missed), TxPackets: moved.packets, TxDropped: moved.dropped,
		Dropped: i.Dropped, Causes: map[string]uint64{}, Linearized: i.Linearized, Bounced: i.Bounced,
		Copies: moved.copies, Records: uint64(len(output.Packets)),
	}
	for cause, n := range i.Causes {
		if n > 0 {
			s.Causes[cause] = n
		}
	}
	if i.Rejected != nil {
		s.Rejected = *i.Rejected
	}
	return s
}

// sessionFaults are what is wrong with the run as a whole: it makes all of its
// cells red.
func sessionFaults(s *cell.Session, output *tool.Output) []string {
	var faults []string
	fault := func(wrong bool, format string, values ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(format, values...))
		}
	}
	// The kernel leaves a kprobe's program out while another runs on its CPU; from
	// 6.7 on it shows so, and xentrace says it.
	handed := s.TxPackets + s.TxDropped
	fault(s.Counted > handed || s.Counted+s.Skipped < handed, "%d packets counted, %d said to be skipped: the interface sent %d and dropped %d",
		s.Counted, s.Skipped, s.TxPackets, s.TxDropped)
	fault(s.Dropped != s.TxDropped, "%d drops counted: tx_dropped moved by %d", s.Dropped, s.TxDropped)
	fault(s.Bounced != s.Copies, "%d bounces counted: the driver made %d copies", s.Bounced, s.Copies)
	fault(s.FalseRecords != 0, "%d records of packets to which nothing of the kind happened", s.FalseRecords)
	lost := output.Summary.Lost
	fault(lost.Ring != 0, "%d records lost", lost.Ring)
	fault(s.Skipped > 0 && s.Backend != "kprobe", "%d runs skipped for recursion and %d missed", value(lost.Recursion), value(lost.Missed))
	return faults
}

func value(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}
