package netns

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
)

// However the program ends, it leaves nothing in the kernel.
func TestLeavesNothingBehind(t *testing.T) {
	// Children inherit an ignored SIGHUP, as of nohup, but not one that is handled.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)
	for _, test := range []struct {
		name   string
		signal unix.Signal
		status int // -1: ended by the signal
	}{
		{"interrupt", unix.SIGINT, 0},
		{"SIGTERM", unix.SIGTERM, 0},
		{"kill -9", unix.SIGKILL, -1},
		{"SIGHUP", unix.SIGHUP, 0},
		{"SIGQUIT", unix.SIGQUIT, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			sender := l.udp(l.udpSink(farAddress.Addr()).Local(), rocket.Options{})
			watch := start(t, "watch", "-i", "near", "-o", "json")
			held := holdingsOf(t, watch.cmd.Process.Pid)
			_, err := sender.Send(t.Context())
			must(t, err)
			watch.signal(test.signal)
			if status := watch.wait(); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			held.gone(t)
			if test.status == 0 {
				if s := summaryOf(t, watch.stdout.String()); s.Events != 1 || s.Interfaces[0].OverLimit != 1 {
					t.Errorf("%d events, %d over the limit, want 1", s.Events, s.Interfaces[0].OverLimit)
				}
			}
		})
	}
}

// A program that was stopped continues where it was.
func TestStoppedAndContinued(t *testing.T) {
	l := newLab(t)
	sender := l.udp(l.udpSink(farAddress.Addr()).Local(), rocket.Options{})
	watch := start(t, "watch", "-i", "near", "-o", "json")
	held := holdingsOf(t, watch.cmd.Process.Pid)
	for range 3 {
		watch.signal(unix.SIGSTOP)
		for range 10 {
			_, err := sender.Send(t.Context())
			must(t, err)
		}
		watch.signal(unix.SIGCONT)
	}
	watch.stop()
	held.gone(t)
	s := summaryOf(t, watch.stdout.String())
	if records := recordsOf(t, watch.stdout.String()); len(records) != 30 || s.Interfaces[0].OverLimit != 30 || s.Lost.Ring != 0 {
		t.Errorf("%d records, %d over the limit, %d lost, want 30 and none lost", len(records), s.Interfaces[0].OverLimit, s.Lost.Ring)
	}
}

// An interrupt that comes while the program is stopped is not lost.
func TestInterruptedWhileStopped(t *testing.T) {
	newLab(t)
	watch := start(t, "watch", "-i", "near")
	held := holdingsOf(t, watch.cmd.Process.Pid)
	watch.signal(unix.SIGSTOP)
	watch.signal(unix.SIGINT)
	watch.signal(unix.SIGCONT)
	if status := watch.wait(); status != 0 {
		t.Errorf("status %d", status)
	}
	held.gone(t)
}

// A reader that has seen enough ends the program, which says nothing of it.
func TestReaderGoesAway(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			l := newLab(t)
			sender := l.udp(l.udpSink(farAddress.Addr()).Local(), rocket.Options{})
			read, write, err := os.Pipe()
			must(t, err)
			cmd := exec.Command(xentrace, "watch", "-i", "near", "-o", format)
			cmd.Stdout = write
			watch := startWith(t, cmd)
			must(t, write.Close())
			held := holdingsOf(t, watch.cmd.Process.Pid)
			_, err = sender.Send(t.Context())
			must(t, err)
			line, err := bufio.NewReaderSize(read, 16).ReadString('\n')
			if must(t, err); line == "" {
				t.Error("no line")
			}
			must(t, read.Close())
			began := time.Now()
			for ended := false; !ended; {
				_, err = sender.Send(t.Context())
				must(t, err)
				select {
				case <-watch.ended:
					ended = true
				case <-time.After(10 * time.Millisecond):
				}
				if time.Since(began) > patience {
					t.Fatal("it keeps running though nobody reads")
				}
			}
			if status := watch.wait(); status != 0 {
				t.Errorf("status %d", status)
			}
			if said := watch.stderr.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "watching near") {
				t.Errorf("standard error %q, want the first sentence only", said)
			}
			held.gone(t)
		})
	}
}

// The same as a user writes it.
func TestPipeIntoHead(t *testing.T) {
	l := newLab(t)
	sender := l.udp(l.udpSink(farAddress.Addr()).Local(), rocket.Options{})
	pipe := launch(t, exec.Command("sh", "-c", `"$0" watch -i near -o json | head -n 1`, xentrace))
	pipe.saysOnStderr("watching near")
	for ended := false; !ended; {
		_, err := sender.Send(t.Context())
		must(t, err)
		select {
		case <-pipe.ended:
			ended = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	if records := recordsOf(t, pipe.stdout.String()); len(records) != 1 || records[0].Slots < 27 {
		t.Errorf("%d records of head -n 1: %+v", len(records), records)
	}
}

// What cannot be done is said in one sentence, and by the exit status.
func TestRefusals(t *testing.T) {
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	for _, test := range []struct {
		name   string
		args   []string
		as     *syscall.SysProcAttr
		status int
		says   []string
	}{
		{"watch, not root", []string{"watch", "-i", "near"}, nobody, 3, []string{"cannot run here", "run with sudo"}},
		{"hist, not root", []string{"hist", "-i", "near"}, nobody, 3, []string{"cannot run here", "run with sudo"}},
		{"demo, not root", []string{"demo"}, nobody, 3, []string{"cannot run here", "run with sudo"}},
		{"no such interface", []string{"watch", "-i", "nowhere"}, nil, 3, []string{"nowhere", "not found", "--wait"}},
		{"no such interface for hist", []string{"hist", "-i", "nowhere"}, nil, 3, []string{"nowhere", "not found", "--wait"}},
		{"one of two interfaces", []string{"watch", "-i", "near", "-i", "nowhere", "-d", "1ms"}, nil, 3, []string{"nowhere"}},
		{"no interface of xen-netfront", []string{"watch"}, nil, 3, []string{"xen-netfront", "-i", "--wait"}},
		{"backend of another driver", []string{"watch", "-i", "near", "--backend", "fentry"}, nil, 3, []string{"near", "veth", "tracepoint"}},
		{"kprobes where there are none", []string{"watch", "-i", "near", "--drops", "all", "--drops-hook", "kprobe"}, nil, 3, []string{"kprobe", "--drops-hook tracepoint"}},
		{"a hook for nothing", []string{"watch", "-i", "near", "--drops-hook", "kprobe"}, nil, 2, []string{"--drops all"}},
		{"no such drops", []string{"watch", "-i", "near", "--drops", "none"}, nil, 2, []string{"none", "driver", "all"}},
		{"no such flag", []string{"watch", "--nonsense"}, nil, 2, []string{"--nonsense"}},
		{"no such backend", []string{"watch", "--backend", "magic"}, nil, 2, []string{"magic"}},
		{"no such format", []string{"hist", "-o", "xml"}, nil, 2, []string{"xml"}},
		{"no duration", []string{"hist", "-d", "soon"}, nil, 2, []string{"soon"}},
		{"negative duration", []string{"hist", "-d", "-1s"}, nil, 2, []string{"-1s"}},
		{"ring size", []string{"watch", "--ring-size", "1000"}, nil, 2, []string{"1000"}},
		{"argument", []string{"watch", "near"}, nil, 2, []string{"near"}},
		{"argument of demo", []string{"demo", "near"}, nil, 2, []string{"near"}},
		{"no command", nil, nil, 2, []string{"watch"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			newLab(t)
			cmd := exec.Command(xentrace, test.args...)
			cmd.SysProcAttr = test.as
			p := launch(t, cmd)
			if status := p.wait(); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			said := p.stderr.String()
			if !strings.HasPrefix(said, "xentrace: ") || strings.Count(said, "\n") != 1 || p.stdout.String() != "" {
				t.Errorf("standard error %q, standard output %q: want one line on standard error", said, p.stdout.String())
			}
			for _, word := range test.says {
				if !strings.Contains(said, word) {
					t.Errorf("%q does not say %q", said, word)
				}
			}
		})
	}
}
