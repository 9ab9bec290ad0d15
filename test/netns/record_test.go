package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
	"xentrace/test/schema"
)

// shown runs the program on a recording, as a user without privileges.
func shown(t *testing.T, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	p := launch(t, exec.Command(xentrace, args...))
	if got := p.wait(); got != status {
		t.Errorf("xentrace %s: status %d, want %d; %s", strings.Join(args, " "), got, status, p.stderr.String())
	}
	return p.stdout.String(), p.stderr.String()
}

// What is replayed is what the run printed, byte for byte, as text and as JSON, and counts
// are those of the run.
func TestReplayIsWhatWatchPrinted(t *testing.T) {
	const n = 20
	for name, args := range map[string][]string{
		"text":         {"-v"},
		"JSON":         {"-o", "json"},
		"a filter":     {"-o", "json", "--min-slots", "30"},
		"drops of all": {"-o", "json", "--drops", "all", "--stack"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			sender := l.tcp(l.tcpSink(farAddress.Addr()).Local(), rocket.Options{})
			for _, file := range []string{"w.jsonl", "w.jsonl.zst"} {
				path := filepath.Join(t.TempDir(), file)
				watch := start(t, append([]string{"watch", "-i", "near", "-w", path}, args...)...)
				for range n {
					_, err := sender.Send(t.Context())
					must(t, err)
				}
				watch.stop()
				live := watch.stdout.String()
				var again []string
				for i := 0; i < len(args); i++ {
					switch args[i] {
					case "--drops": // what is recorded
						i++
					default:
						again = append(again, args[i])
					}
				}
				replayed, _ := shown(t, 0, append([]string{"replay", path}, again...)...)
				if replayed != live || strings.Count(live, "\n") < 2 {
					t.Errorf("replayed\n%s\nlive\n%s", replayed, live)
				}
				if file == "w.jsonl" {
					content, err := os.ReadFile(path)
					must(t, err)
					schema.Check(t, content)
				}
			}
		})
	}
}

// A recorder that has become another user makes and deletes segments; one that is killed
// leaves all but the last moment; a second one is refused.
func TestRecordAndKill(t *testing.T) {
	const n = 60
	l := newLab(t)
	sender := l.tcp(l.tcpSink(farAddress.Addr()).Local(), rocket.Options{})
	dir := filepath.Join(t.TempDir(), "recording")
	record := start(t, "record", "-i", "near", "--dir", dir, "--snap", "128", "--rate", "0")
	for range n {
		_, err := sender.Send(t.Context())
		must(t, err)
	}
	if _, stderr := shown(t, 2, "record", "-i", "near", "--dir", dir); !strings.Contains(stderr, "another xentrace records there") {
		t.Errorf("second recorder: %s", stderr)
	}
	eventually(t, "all packets are on disk", func() bool {
		text, _ := shown(t, 0, "replay", dir, "-o", "json")
		return strings.Count(text, `"type":"packet"`) == n
	})
	record.signal(unix.SIGKILL)
	record.wait()
	text, _ := shown(t, 0, "replay", dir, "-o", "json")
	if got := strings.Count(text, `"type":"packet"`); got != n {
		t.Errorf("%d packets after SIGKILL, want %d", got, n)
	}
	schema.Check(t, text)
	again := start(t, "record", "-i", "near", "--dir", dir)
	_, err := sender.Send(t.Context())
	must(t, err)
	again.stop()
	text, _ = shown(t, 0, "replay", dir, "-o", "json")
	segments, err := filepath.Glob(filepath.Join(dir, "xentrace-*"))
	must(t, err)
	if got := strings.Count(text, `"type":"packet"`); got != n+1 || len(segments) != 2 {
		t.Errorf("%d packets in %d segments after a restart, want %d in 2", got, len(segments), n+1)
	}
}

// A recorder that has nothing to record sleeps: after it started there is a second in which
// it hardly runs. Timers that ran all the time made it 110 times a second.
func TestQuietRecorder(t *testing.T) {
	const most = 40
	newLab(t)
	record := start(t, "record", "-i", "near", "--dir", filepath.Join(t.TempDir(), "recording"))
	least := most
	for second := 0; second < 10 && least >= most; second++ {
		before := wakeUps(t, record.cmd.Process.Pid)
		time.Sleep(time.Second)
		least = min(least, wakeUps(t, record.cmd.Process.Pid)-before)
	}
	if least >= most {
		t.Errorf("at least %d wake-ups a second, want fewer than %d", least, most)
	}
	record.stop()
}

// wakeUps counts how often the threads of a process stopped waiting.
func wakeUps(t *testing.T, pid int) (sum int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	for _, file := range files {
		status, err := os.ReadFile(file)
		must(t, err)
		_, rest, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches:")
		n := 0
		_, err = fmt.Sscan(rest, &n)
		must(t, err)
		sum += n
	}
	return sum
}
