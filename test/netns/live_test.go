package netns

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"xentrace/test/tool"
)

// onScreen runs watch on the whole screen of a terminal, on all drops of near.
func onScreen(t *testing.T, columns, rows uint16) (*tool.Terminal, *exec.Cmd) {
	t.Helper()
	terminal := tool.OpenTerminal(t, columns, rows)
	watch := exec.Command(xentrace, "watch", "--live", "-i", "near", "--drops", "all")
	watch.Env = append(os.Environ(), "TERM=xterm-256color", "LANG=C.UTF-8", "LC_ALL=")
	watch.Stdin, watch.Stdout, watch.Stderr = terminal.Slave, terminal.Slave, terminal.Slave
	watch.SysProcAttr = tool.Controls(0)
	must(t, watch.Start())
	t.Cleanup(func() { _ = watch.Process.Kill() })
	terminal.Await(t, "flows with losses: none", "q quit")
	return terminal, watch
}

// checkWhole checks that a screen is neither torn nor cut: every part is where it
// belongs, from edge to edge.
func checkWhole(t *testing.T, screen string, columns, rows int) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
	if len(lines) != rows || !strings.HasPrefix(lines[0], "xentrace watch   ") || !strings.HasSuffix(lines[rows-1], "q quit") {
		t.Errorf("%d lines, from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	rules := 0
	for i, line := range lines {
		switch n := utf8.RuneCountInString(line); {
		case n > columns:
			t.Errorf("line %d has %d columns: %q", i, n, line)
		case strings.HasPrefix(line, "── "):
			if rules++; n != columns {
				t.Errorf("the rule in line %d has %d columns: %q", i, n, line)
			}
		case strings.ContainsAny(line, "…~"):
			t.Errorf("line %d is cut: %q", i, line)
		}
	}
	for _, part := range []string{"packets ", "dropped ", "linearized ", "bounced ", "over_limit ", "elsewhere ", "lost 0 (ring 0, flows 0, recursion 0, missed 0)", "TX_DROPPED", "\nnear "} {
		if strings.Count(screen, part) == 0 {
			t.Errorf("no %q", part)
		}
	}
	if rules != 2 {
		t.Errorf("%d rules", rules)
	}
	if t.Failed() {
		t.Fatalf("the screen:\n%s", screen)
	}
}

// Connections hang, as many as one likes, on terminals of every size; then they go on.
func TestLiveScreen(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {120, 40}, {200, 60}} {
		for _, flows := range []int{0, 1, 500} {
			columns, rows := size[0], size[1]
			t.Run(fmt.Sprintf("%dx%d %d flows", columns, rows, flows), func(t *testing.T) {
				l := newLab(t)
				queueOf(t)
				sink := l.tcpSink(farAddress.Addr())
				var bad []*connection
				for range flows {
					bad = append(bad, l.connect("tcp4", sink.Local()))
				}
				terminal, watch := onScreen(t, uint16(columns), uint16(rows))
				l.shrink(narrow)
				for _, c := range bad {
					c.write(much)
				}
				screen := terminal.Await(t, fmt.Sprintf("stalled now %d\n", flows))
				checkWhole(t, screen, columns, rows)
				if flows > 0 {
					checkHanging(t, terminal, bad)
				}
				l.shrink(wide)
				for _, c := range bad {
					eventually(t, "acknowledgement", func() bool { return c.info().Unacked == 0 })
				}
				checkWhole(t, terminal.Await(t, "stalled now 0\n"), columns, rows)
				terminal.Press(t, "q")
				must(t, watch.Wait())
				if after, _ := tool.AfterLast(terminal.Text(), tool.AlternateOff); flows > 0 && !strings.Contains(after, fmt.Sprintf("%d stalled, 0 still stalled", flows)) {
					t.Errorf("the summary is %q", after)
				}
			})
		}
	}
}

// checkHanging looks at the list of connections that hang, at its first and its last,
// and at the details of one.
func checkHanging(t *testing.T, terminal *tool.Terminal, bad []*connection) {
	t.Helper()
	known := make(map[string]bool)
	for _, c := range bad {
		known[fmt.Sprintf("%s > %s", c.conn.LocalAddr(), c.conn.RemoteAddr())] = true
	}
	row := regexp.MustCompile(`(?m)^[> ] stalled .*? ([0-9.]+:[0-9]+ > [0-9.]+:[0-9]+)( |$)`)
	for keys, heading := range map[string]string{"g": ": 1 to ", "G": fmt.Sprintf(" to %d of %d", len(bad), len(bad))} {
		if len(bad) == 1 {
			heading = "by stalled time: 1 "
		}
		terminal.Press(t, keys)
		rows := row.FindAllStringSubmatch(terminal.Await(t, heading), -1)
		if len(rows) < min(len(bad), 8) {
			t.Errorf("%d connections are listed", len(rows))
		}
		for _, r := range rows {
			if !known[r[1]] {
				t.Errorf("%q is no connection of the test's", r[1])
			}
		}
	}
	terminal.Press(t, "\r")
	details := terminal.Await(t, "one flow", "1.2 kB unacknowledged (snd_una ", "NOT_SPECIFIED")
	found := false
	for name := range known {
		found = found || strings.Contains(details, name+" tcp\n")
	}
	if !found {
		t.Errorf("the details are of no connection of the test's:\n%s", details)
	}
	terminal.Press(t, "\x1b")
	terminal.Await(t, "last events")
}
