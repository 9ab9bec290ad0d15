package cli

import (
	"bytes"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"xentrace/test/tool"
)

// onTerminal runs a process whose standard output and error are a terminal.
func onTerminal(t *testing.T, columns uint16, environment []string, args ...string) string {
	t.Helper()
	terminal := tool.OpenTerminal(t, columns, 30)
	p := newProcess(t, environment, args...)
	p.Stdout, p.Stderr = terminal.Slave, terminal.Slave
	p.attached(t)
	if status := p.wait(t); status.ExitStatus() != 0 {
		t.Fatalf("ended with %v", status)
	}
	return terminal.Text()
}

const paced = "XENTRACE_FAKE_PACE_US=100000"

func TestTerminalHasColourAndAStatusLine(t *testing.T) {
	t.Parallel()
	got := onTerminal(t, 100, []string{"TERM=xterm", "NO_COLOR=", "LANG=C.UTF-8", "LC_ALL=", paced, "XENTRACE_FAKE_RECORDS=15"}, "watch", "-d", "2200ms")
	for _, part := range []string{
		"\x1b[1mTIME",
		"\x1b[31mdropped too_many_slots\x1b[0m",
		"\r\x1b[Klost 0  dropped ",
		"packets/s",
		"to go)",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in %q", part, got)
		}
	}
	// What the status line leaves is nothing: each line begins where it was
	// erased, and the summary stands alone.
	screen := rendered(got)
	for line := range strings.Lines(screen) {
		line = strings.TrimSuffix(line, "\n")
		if strings.Contains(line, "lost 0  dropped ") {
			t.Errorf("the status line was left behind: %q", line)
		}
		if n := utf8.RuneCountInString(line); n > 100 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if n := strings.Count(screen, " dropped too_many_slots "); n != 15 {
		t.Errorf("%d lines of packets, want 15:\n%s", n, screen)
	}
	if !strings.HasSuffix(screen, "15 events, 0 lost (ring 0, recursion 0, missed 0)\n") {
		t.Errorf("the end is torn:\n%s", screen)
	}
}

// rendered is what remains on the screen: erased text removed, colours too.
func rendered(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if i := strings.LastIndex(line, "\r\x1b[K"); i >= 0 {
			line = line[i+len("\r\x1b[K"):]
		}
		for {
			start := strings.Index(line, "\x1b[")
			if start < 0 {
				break
			}
			end := strings.IndexByte(line[start:], 'm')
			line = line[:start] + line[start+end+1:]
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestColourIsAMatterOfTaste(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environment []string
		color       string
		colours     bool
		status      bool
	}{
		"auto":            {[]string{"TERM=xterm", "NO_COLOR="}, "auto", true, true},
		"NO_COLOR":        {[]string{"TERM=xterm", "NO_COLOR=1"}, "auto", false, true},
		"dumb":            {[]string{"TERM=dumb", "NO_COLOR="}, "auto", false, false},
		"never":           {[]string{"TERM=xterm", "NO_COLOR="}, "never", false, true},
		"always, despite": {[]string{"TERM=dumb", "NO_COLOR=1"}, "always", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := onTerminal(t, 100, append(c.environment, "XENTRACE_FAKE_RECORDS=2"), "watch", "-d", "1200ms", "--color", c.color)
			if has := strings.Contains(got, "\x1b[31m"); has != c.colours {
				t.Errorf("colours: %t, want %t", has, c.colours)
			}
			if has := strings.Contains(got, "lost 0  dropped "); has != c.status {
				t.Errorf("status line: %t, want %t", has, c.status)
			}
		})
	}
}

func TestColourAlwaysInAPipe(t *testing.T) {
	if got := runWith(t, newFake(), "watch", "-d", "10ms", "--color", "always"); !strings.Contains(got.stdout, "\x1b[31m") {
		t.Error("no colours")
	}
	if got := runWith(t, newFake(), "watch", "-d", "10ms"); strings.Contains(got.stdout, "\x1b") {
		t.Error("colours in a pipe")
	}
}

func TestTerminalFollowsAResize(t *testing.T) {
	t.Parallel()
	terminal := tool.OpenTerminal(t, 120, 30)
	p := newProcess(t, []string{"TERM=xterm", paced, "XENTRACE_FAKE_RECORDS=12"}, "watch", "--count", "12", "--color", "never")
	p.Stdout, p.Stderr = terminal.Slave, terminal.Slave
	p.attached(t)
	for deadline := time.Now().Add(time.Minute); strings.Count(terminal.Raw(), "too_many_slots") < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no three packets after a minute: %q", terminal.Raw())
		}
	}
	terminal.Resize(t, 80, 24)
	if status := p.wait(t); status.ExitStatus() != 0 {
		t.Fatalf("ended with %v", status)
	}
	var wide, wrapped int
	for line := range strings.Lines(rendered(terminal.Text())) {
		switch {
		case strings.Contains(line, "too_many_slots") && strings.Contains(line, " > "):
			wide++
		case strings.HasPrefix(line, strings.Repeat(" ", 13)) && strings.Contains(line, " > "):
			wrapped++
		}
	}
	if wide < 3 || wrapped < 3 || wide+wrapped != 12 {
		t.Errorf("%d packets on one line and %d on two, want some of each and 12 together", wide, wrapped)
	}
}

func TestTerminalGoesAway(t *testing.T) {
	t.Parallel()
	terminal := tool.OpenTerminal(t, 100, 30)
	p := newProcess(t, []string{"TERM=xterm", paced, "XENTRACE_FAKE_RECORDS=100000"}, "watch")
	p.Stdout, p.Stderr = terminal.Slave, terminal.Slave
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.attached(t)
	terminal.Slave.Close()
	terminal.Master.Close()
	if status := p.wait(t); !status.Exited() || status.ExitStatus() != 4 {
		t.Errorf("ended with %v, want status 4: standard output failed", status)
	}
	if !p.detached() {
		t.Error("the tracer was not closed")
	}
}

func TestStatusLineIsOnStandardErrorAlone(t *testing.T) {
	t.Parallel()
	terminal := tool.OpenTerminal(t, 100, 30)
	p := newProcess(t, []string{"TERM=xterm", "XENTRACE_FAKE_RECORDS=3"}, "watch", "-d", "1200ms", "-o", "json")
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = terminal.Slave
	p.attached(t)
	data, err := io.ReadAll(stdout)
	if err != nil {
		t.Fatal(err)
	}
	if status := p.wait(t); status.ExitStatus() != 0 {
		t.Fatalf("ended with %v", status)
	}
	if bytes.Contains(data, []byte("\x1b")) || bytes.Count(data, []byte("\n")) != 4 {
		t.Errorf("stdout is %s", data)
	}
	if !strings.Contains(terminal.Text(), "lost 0  dropped 3") {
		t.Error("no status line")
	}
}
