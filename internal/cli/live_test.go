package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/output"
	"xentrace/test/tool"
)

// A liveRun is xentrace watch --live on a terminal of its own.
type liveRun struct {
	*process
	terminal *tool.Terminal
	before   unix.Termios
}

var liveEnvironment = []string{"TERM=xterm-256color", "LANG=C.UTF-8", "LC_ALL=", "NO_COLOR=", "COLORTERM="}

// startLive starts it and waits until its screen is there.
func startLive(t *testing.T, columns, rows uint16, environment []string, args ...string) *liveRun {
	t.Helper()
	l := &liveRun{terminal: tool.OpenTerminal(t, columns, rows)}
	l.before = l.terminal.Modes(t)
	l.process = newProcess(t, append(liveEnvironment, environment...), append([]string{"watch", "--live"}, args...)...)
	l.Stdin, l.Stdout, l.Stderr = l.terminal.Slave, l.terminal.Slave, l.terminal.Slave
	l.SysProcAttr = tool.Controls(0)
	l.attached(t)
	l.terminal.Await(t, "q quit")
	return l
}

// ended waits for the end, and until the terminal has what is to be said behind the
// screen, and returns all that stands there.
func (l *liveRun) ended(t *testing.T, says string) (syscall.WaitStatus, string) {
	t.Helper()
	status := l.waitFor(t, time.Minute) // a storm takes its time on a busy machine
	l.restored(t)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		after, _ := tool.AfterLast(l.terminal.Raw(), tool.AlternateOff)
		after = strings.ReplaceAll(after, "\r\n", "\n")
		if strings.Contains(after, says) {
			return status, after
		}
		if time.Now().After(deadline) {
			t.Fatalf("it ended with %v and does not say %q behind the screen: %q", status, says, after)
		}
	}
}

// restored waits until the terminal is as it was.
func (l *liveRun) restored(t *testing.T) {
	t.Helper()
	var wrong string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		raw := l.terminal.Raw()
		switch {
		case strings.LastIndex(raw, tool.AlternateOff) < strings.LastIndex(raw, tool.AlternateOn):
			wrong = "it shows the alternate screen"
		case strings.LastIndex(raw, tool.CursorOn) < strings.LastIndex(raw, tool.CursorOff):
			wrong = "its cursor is hidden"
		case l.terminal.Modes(t) != l.before:
			wrong = fmt.Sprintf("its modes are %+v, before %+v", l.terminal.Modes(t), l.before)
		default:
			return
		}
	}
	t.Errorf("the terminal is not as it was: %s", wrong)
}

func TestLiveKeys(t *testing.T) {
	t.Parallel()
	l := startLive(t, 80, 24, []string{"XENTRACE_FAKE_RECORDS=40"})
	screen := l.terminal.Await(t, "dropped           40", "flows with losses, by stalled time: 1 to 9 of 31")
	for _, part := range []string{"xentrace watch   0:0", "backend kprobe", "packets        1,040", "eth0       xen-netfront", "lost 0 (ring 0, flows 0, recursion 0, missed 0)", "stalled now 0", "dropped too_many_slots", "[2001:db8:1234:5678::1]:443"} {
		if !strings.Contains(screen, part) {
			t.Errorf("no %q in\n%s", part, screen)
		}
	}
	for _, step := range []struct{ keys, want string }{
		{"?", "suspend; fg resumes"},
		{"\x1b[F", "segments retransmitted since"},
		{"\x1b", "── last events"},
		{"s", "by drops: 1 to 9 of 31"},
		{"\r", "── one flow"},
		{"\x1b[6~", "What to do:"},
		{"\r", "by drops"},
		{"G", "23 to 31 of 31"},
		{"g", "1 to 9 of 31"},
		{"\x1b[B\x1b[B", ">"},
		{"p", "PAUSED at"},
		{"p", "by drops"},
	} {
		l.terminal.Press(t, step.keys)
		l.terminal.Await(t, step.want, "q quit")
	}
	l.terminal.AwaitThat(t, "the end of the pause", func(screen string) bool { return !strings.Contains(screen, "PAUSED") })
	l.terminal.Press(t, "q")
	status, after := l.ended(t, "40 events, 0 lost")
	if status.ExitStatus() != 0 || !strings.Contains(after, "xen-netfront, kprobe, 2 queues") || !l.detached() {
		t.Errorf("ended with %v, and said\n%s", status, after)
	}
}

// The terminal is as it was before, and the errors and the summary are printed there.
func TestLiveGivesTheTerminalBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environment []string
		args        []string
		end         func(*testing.T, *liveRun)
		status      int
		says        string
	}{
		"q":            {end: func(t *testing.T, l *liveRun) { l.terminal.Press(t, "q") }, says: "events, 0 lost"},
		"interrupt":    {end: func(t *testing.T, l *liveRun) { l.terminal.Press(t, "\x03") }, says: "events, 0 lost"},
		"SIGINT":       {end: func(t *testing.T, l *liveRun) { l.signal(t, unix.SIGINT) }, says: "events, 0 lost"},
		"SIGTERM":      {end: func(t *testing.T, l *liveRun) { l.signal(t, unix.SIGTERM) }, says: "events, 0 lost"},
		"SIGQUIT":      {end: func(t *testing.T, l *liveRun) { l.signal(t, unix.SIGQUIT) }, says: "events, 0 lost"},
		"SIGHUP":       {end: func(t *testing.T, l *liveRun) { l.signal(t, unix.SIGHUP) }, says: "events, 0 lost"},
		"duration":     {args: []string{"-d", "1500ms"}, says: "events, 0 lost"},
		"count":        {args: []string{"--count", "12"}, environment: []string{"XENTRACE_FAKE_PACE_US=100000"}, says: "12 events, 0 lost"},
		"panic":        {environment: []string{"XENTRACE_FAKE_PACE_US=100000", "XENTRACE_FAKE_READ_ERROR=torn record", "XENTRACE_FAKE_PANIC=1"}, status: 2, says: "panic: torn record"},
		"tracer fails": {environment: []string{"XENTRACE_FAKE_PACE_US=100000", "XENTRACE_FAKE_READ_ERROR=ring buffer: broken"}, status: 4, says: "xentrace: ring buffer: broken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startLive(t, 100, 30, append([]string{"XENTRACE_FAKE_RECORDS=20"}, c.environment...), c.args...)
			if c.end != nil {
				c.end(t, l)
			}
			if status, _ := l.ended(t, c.says); status.ExitStatus() != c.status {
				t.Errorf("ended with %v, want status %d", status, c.status)
			}
		})
	}
}

// The terminal window is closed: nothing is left to restore, and the run ends.
func TestLiveTerminalGoesAway(t *testing.T) {
	t.Parallel()
	l := startLive(t, 100, 30, []string{"XENTRACE_FAKE_RECORDS=20"})
	l.terminal.Slave.Close()
	l.terminal.Master.Close()
	if status := l.wait(t); !status.Exited() || status.ExitStatus() != 4 {
		t.Errorf("ended with %v, want status 4", status)
	}
	if !l.detached() {
		t.Error("the tracer was not closed")
	}
}

func TestLiveFollowsAResize(t *testing.T) {
	t.Parallel()
	l := startLive(t, 80, 24, []string{"XENTRACE_FAKE_RECORDS=400"})
	for _, c := range []struct {
		columns, rows uint16
		want          string
	}{
		{200, 60, "RETRANS"},
		{59, 24, "The terminal is too small: 59x24, needs 60x15."},
		{120, 14, "The terminal is too small: 120x14, needs 60x15."},
		{60, 15, "q quit"},
		{1, 1, "T"},
		{120, 40, "SNDQ"},
	} {
		l.terminal.Resize(t, c.columns, c.rows)
		l.terminal.Await(t, c.want)
	}
	l.terminal.Press(t, "q")
	if status, _ := l.ended(t, "0 lost"); status.ExitStatus() != 0 {
		t.Errorf("ended with %v", status)
	}
}

// In a shell: ^Z gives the terminal to the shell, fg takes it again.
func TestLiveSuspends(t *testing.T) {
	t.Parallel()
	terminal := tool.OpenTerminal(t, 80, 24)
	shell := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	shell.Env = append(os.Environ(), append(liveEnvironment, "XENTRACE_FAKE=1", "XENTRACE_FAKE_RECORDS=40", "PS1=ready> ", "HISTFILE=")...)
	shell.Stdin, shell.Stdout, shell.Stderr = terminal.Slave, terminal.Slave, terminal.Slave
	shell.SysProcAttr = tool.Controls(0)
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shell.Process.Kill(); _ = shell.Wait() })
	l := &liveRun{terminal: terminal}
	l.before = l.terminal.Modes(t)

	awaitRaw := func(what string, from int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !strings.Contains(terminal.Raw()[from:], what); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %q in %q", what, terminal.Raw()[from:])
			}
		}
	}
	awaitRaw("ready> ", 0)
	terminal.Press(t, fmt.Sprintf("%s watch --live\n", os.Args[0]))
	l.terminal.Await(t, "dropped           40")
	for range 2 {
		from := len(terminal.Raw())
		terminal.Press(t, "\x1a")
		awaitRaw("Stopped", from)
		awaitRaw("ready> ", from)
		l.restored(t)
		from = len(terminal.Raw())
		terminal.Press(t, "fg\n")
		awaitRaw(tool.AlternateOn, from)
		l.terminal.Await(t, "dropped           40", "q quit")
		// What is typed while the terminal changes to raw mode is discarded.
		looks, before := 0, ""
		l.terminal.AwaitThat(t, "another order", func(screen string) bool {
			order := regexp.MustCompile("by (stalled time|[a-z]+)").FindString(screen)
			if looks%200 == 0 && order != "" {
				terminal.Press(t, "s")
			}
			if before == "" {
				before = order
			}
			looks++
			return order != "" && order != before
		})
	}
	from := len(terminal.Raw())
	terminal.Press(t, "q")
	awaitRaw("40 events, 0 lost", from)
	awaitRaw("ready> ", from)
	l.restored(t)
	terminal.Press(t, "exit $?\n")
	if err := shell.Wait(); err != nil {
		t.Errorf("the shell says %v", err)
	}
}

// Filters choose flows and events; counts are of all packets.
func TestLiveFilters(t *testing.T) {
	t.Parallel()
	l := startLive(t, 100, 30, []string{"XENTRACE_FAKE_RECORDS=40"}, "--port", "53")
	screen := l.terminal.Await(t, "dropped           40", "flows with losses, by stalled time: 1, 30 filtered out", "192.168.122.101:53")
	if strings.Contains(screen, "10.0.0.") || strings.Contains(screen, "2001:db8") {
		t.Errorf("others are shown:\n%s", screen)
	}
}

// What is said meanwhile is shown on the screen, and stands behind it at the end.
func TestLiveSentences(t *testing.T) {
	t.Parallel()
	l := startLive(t, 100, 30, []string{"XENTRACE_FAKE_NOTICE=eth1"})
	l.terminal.Await(t, " interface eth1 is gone")
	l.terminal.Press(t, "q")
	if _, after := l.ended(t, "0 lost"); strings.Count(after, "xentrace: interface eth1 is gone\n") != 1 {
		t.Errorf("behind the screen: %q", after)
	}
}

func TestLiveColours(t *testing.T) {
	t.Parallel()
	colour := regexp.MustCompile(`\x1b\[[0-9;]*3[0-7]m`)
	for name, c := range map[string]struct {
		environment []string
		color       string
		want        bool
	}{
		"auto":            {nil, "auto", true},
		"NO_COLOR":        {[]string{"NO_COLOR=1"}, "auto", false},
		"never":           {nil, "never", false},
		"always, despite": {[]string{"NO_COLOR=1"}, "always", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startLive(t, 100, 30, append([]string{"XENTRACE_FAKE_RECORDS=20"}, c.environment...), "--color", c.color)
			l.terminal.Await(t, "dropped           20")
			if screen, _ := tool.AfterLast(l.terminal.Raw(), tool.AlternateOn); colour.MatchString(screen) != c.want {
				t.Errorf("colours: %t, want %t", !c.want, c.want)
			}
		})
	}
}

func TestLivePlainASCII(t *testing.T) {
	t.Parallel()
	l := startLive(t, 80, 24, []string{"LANG=C", "XENTRACE_FAKE_RECORDS=40"})
	screen := l.terminal.Await(t, "-- last events ---")
	if strings.ContainsFunc(screen, func(r rune) bool { return r > '~' }) {
		t.Errorf("not plain ASCII:\n%s", screen)
	}
}

func drawings(l *liveRun) int { return strings.Count(l.terminal.Raw(), tool.OneDrawing) }

// A storm neither keeps the reader from its ring nor redraws more often than need be.
func TestLiveStorm(t *testing.T) {
	t.Parallel()
	const records = 100_000
	began := time.Now()
	l := startLive(t, 200, 60, []string{fmt.Sprintf("XENTRACE_FAKE_RECORDS=%d", records)}, "--count", fmt.Sprint(records))
	status, _ := l.ended(t, output.Grouped(records)+" events, 0 lost")
	took := time.Since(began)
	if status.ExitStatus() != 0 {
		t.Errorf("ended with %v", status)
	}
	if n, most := drawings(l), int(took/(200*time.Millisecond))+2; n > most {
		t.Errorf("%d drawings in %v, want at most %d", n, took, most)
	}
	t.Logf("%d records in %v with %d drawings", records, took, drawings(l))
}

func TestLiveDrawsNothingWhileNothingChanges(t *testing.T) {
	t.Parallel()
	l := startLive(t, 80, 24, []string{"XENTRACE_FAKE_RECORDS=40"})
	l.terminal.Await(t, "dropped           40")
	l.terminal.Press(t, "p")
	l.terminal.Await(t, "PAUSED at")
	for !strings.HasSuffix(l.terminal.Raw(), "\x1b[?2026l") { // until it is drawn to the end
		time.Sleep(5 * time.Millisecond)
	}
	before := len(l.terminal.Raw())
	time.Sleep(1500 * time.Millisecond)
	if written := l.terminal.Raw()[before:]; written != "" {
		t.Errorf("paused, it wrote %q", written)
	}
}

func TestLiveWithoutATerminalGoesOnInLines(t *testing.T) {
	t.Parallel()
	const sentence = "xentrace: --live needs a terminal on stdout and TERM set; printing lines instead\n"
	got := runWith(t, newFake(), "watch", "--live", "-d", "10ms")
	if got.status != 0 || strings.Count(got.stderr, sentence) != 1 || strings.Count(got.stdout, "dropped too_many_slots") != 3 {
		t.Errorf("status %d, stderr %q, stdout %q", got.status, got.stderr, got.stdout)
	}
	for _, terminal := range []string{"TERM=dumb", "TERM="} {
		text := onTerminal(t, 130, []string{terminal, "XENTRACE_FAKE_RECORDS=3"}, "watch", "--live", "-d", "10ms", "--color", "never")
		if !strings.Contains(text, sentence) || strings.Contains(text, tool.AlternateOn) || strings.Count(text, " dropped too_many_slots ") != 3 {
			t.Errorf("%s: %q", terminal, text)
		}
	}
}

// Standard input is no terminal, as in a script: keys come from the one that is looked at.
func TestLiveReadsKeysFromItsOwnTerminal(t *testing.T) {
	t.Parallel()
	terminal := tool.OpenTerminal(t, 80, 24)
	l := &liveRun{terminal: terminal}
	l.before = l.terminal.Modes(t)
	l.process = newProcess(t, liveEnvironment, "watch", "--live")
	l.Stdin, l.Stdout, l.Stderr = bytes.NewReader(nil), terminal.Slave, &l.stderr
	l.SysProcAttr = tool.Controls(1)
	l.attached(t)
	l.terminal.Await(t, "q quit")
	terminal.Press(t, "q")
	if status, _ := l.ended(t, "0 lost"); status.ExitStatus() != 0 {
		t.Errorf("ended with %v", status)
	}
}
