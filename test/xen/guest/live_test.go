//go:build xenlab

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/tool"
)

// terminals makes sure that there are pseudo terminals.
func terminals(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/pts/ptmx"); err == nil {
		return
	}
	if err := os.MkdirAll("/dev/pts", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount("/dev/pts", unix.MNT_DETACH) })
	if _, err := os.Stat("/dev/ptmx"); err == nil {
		return
	}
	if err := os.Symlink("pts/ptmx", "/dev/ptmx"); err != nil {
		t.Fatal(err)
	}
}

// onScreen runs watch on the whole screen of a terminal.
func onScreen(t *testing.T, columns, rows uint16) (*tool.Terminal, *exec.Cmd) {
	t.Helper()
	terminals(t)
	terminal := tool.OpenTerminal(t, columns, rows)
	watch := exec.Command(program(t), "watch", "--live")
	watch.Env = append(os.Environ(), "TERM=xterm-256color", "LANG=C.UTF-8", "LC_ALL=")
	watch.Stdin, watch.Stdout, watch.Stderr = terminal.Slave, terminal.Slave, terminal.Slave
	watch.SysProcAttr = tool.Controls(0)
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Process.Kill() })
	terminal.Await(t, "flows with losses: none", "q quit")
	return terminal, watch
}

// Whoever looks at the screen while a connection hangs sees which one, since when, what
// waits, and what would help, and then that it is over; the numbers are the kernel's.
func TestStalledConnectionOnTheScreen(t *testing.T) {
	if env(t, "XENTRACE_LAB_DRIVER") != "prefix" {
		t.Fatal("only a driver that drops over the limit leaves a connection hanging: --driver prefix")
	}
	defer jumbo(t)()
	terminal, watch := onScreen(t, 80, 24)
	s := newStuck(t, "ipv4")
	ends := fmt.Sprintf("%s > %s", s.Local(), peerAddr(t, "ipv4"))
	screen := terminal.Await(t, "stalled now 1", ends, "stalled for", "dropped too_many_slots")
	t.Logf("the screen:\n%s", screen)

	terminal.Press(t, "\r")
	details := terminal.Await(t, "one flow", ends, "17", "ESTABLISHED", "too_many_slots")
	for _, part := range []string{"8.7 kB unacknowledged (snd_una ", fmt.Sprintf("interface  %s", ifname), "35 slots"} {
		if !strings.Contains(details, part) {
			t.Errorf("no %q in its details", part)
		}
	}
	t.Logf("its details:\n%s", details)
	s.awaitDrops(t, 4)
	command(t, "ip", "link", "set", ifname, "mtu", "1500")
	s.awaitAcknowledged(t)
	terminal.Press(t, "\x1b")
	terminal.Await(t, "stalled now 0", "recovered after", "> recovered")
	dropped := counter(t, "tx_dropped") - s.dropped
	shown := terminal.AwaitThat(t, fmt.Sprintf("%d drops", dropped), func(screen string) bool {
		return regexp.MustCompile(fmt.Sprintf(`(?m)^> recovered [0-9.]+ s +%d .*%s`, dropped, regexp.QuoteMeta(ends))).MatchString(screen)
	})
	t.Logf("after it was freed:\n%s", shown)

	terminal.Press(t, "q")
	if err := watch.Wait(); err != nil {
		t.Error(err)
	}
	if after, _ := tool.AfterLast(terminal.Text(), tool.AlternateOff); !strings.Contains(after, "1 stalled, 0 still stalled") {
		t.Errorf("the summary is %q", after)
	}
}
