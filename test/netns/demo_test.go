package netns

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// alone puts the test into a namespace that the program starts from, and
// returns what is there: lo, and nothing more.
func alone(t *testing.T) []string {
	t.Helper()
	enter(t, newNamespace(t))
	return surroundings(t)
}

// surroundings are the interfaces of the namespace, and the named namespaces of
// the machine.
func surroundings(t *testing.T) []string {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	var names []string
	for _, l := range links {
		names = append(names, fmt.Sprintf("%s %v", l.Attrs().Name, l.Attrs().Flags))
	}
	named, err := filepath.Glob("/run/netns/*")
	must(t, err)
	return append(names, named...)
}

// otherNamespaces are those that threads of a process are in, less the test's,
// held open: what is in them can be looked at when the process has gone.
func otherNamespaces(t *testing.T, pid int) []*os.File {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/net", pid))
	must(t, err)
	seen := []string{readlink(t, "/proc/thread-self/ns/net")}
	var files []*os.File
	for _, path := range paths {
		name, err := os.Readlink(path)
		if err != nil || slices.Contains(seen, name) {
			continue
		}
		seen = append(seen, name)
		file, err := os.Open(path)
		must(t, err)
		t.Cleanup(func() { must(t, file.Close()) })
		files = append(files, file)
	}
	return files
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	name, err := os.Readlink(path)
	must(t, err)
	return name
}

// interfacesIn lists the interfaces of a namespace but lo.
func interfacesIn(t *testing.T, file *os.File) (names []string) {
	t.Helper()
	home, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer func() { must(t, home.Close()) }()
	must(t, unix.Setns(int(file.Fd()), unix.CLONE_NEWNET))
	links, err := netlink.LinkList()
	must(t, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET))
	must(t, err)
	for _, l := range links {
		if l.Attrs().Name != "lo" {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// The demo as a whole: what it sends, its lines, its histogram and its closing
// words report the same numbers.
func TestDemo(t *testing.T) {
	need.Root(t, "to make network namespaces")
	before := alone(t)
	began := time.Now()
	demo := launchXentrace(t, "demo")
	if status := demo.wait(); status != 0 {
		t.Fatalf("status %d: %s", status, demo.stderr.String())
	}
	if took := time.Since(began); took < 10*time.Second {
		t.Errorf("it took %v, want about 15 s, to be read", took)
	}
	text := demo.stdout.String()
	if records := strings.Count(text, "demo0 over_limit "); records != 12 {
		t.Errorf("%d lines of packets over the limit, want 12", records)
	}
	for _, want := range []string{
		"$ xentrace watch -i demo0\n", "$ xentrace hist -i demo0\n", "limit: 18 slots",
		"Linux 3.7 to 3.16\n    drops each of the 12.", "Linux 3.17 and newer\n    linearizes each of the 12:", "with scatter-gather off\n",
		"- watch: 12 packets over the limit sent (6 UDP, 6 TCP); 12 counted, 12 records, 0 lost.\n",
		"- hist: 60 packets over the limit sent (30 UDP, 30 TCP); 60 counted.\n",
		"- all packets: 372 and 3100 by demo0's own counter; 372 and 3100 counted.\n",
		"All counts are equal.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	checkBars(t, text)
	if after := surroundings(t); !slices.Equal(before, after) {
		t.Errorf("there is %v now, and was %v", after, before)
	}
	if t.Failed() {
		t.Log(text)
	}
}

// checkBars adds up the drawn histogram.
func checkBars(t *testing.T, text string) {
	t.Helper()
	var packets, over int
	for _, bar := range regexp.MustCompile(`(?m)^ +(\d+) +([\d,]+) +[<>]?[\d.]+ %`).FindAllStringSubmatch(text, -1) {
		slots, err := strconv.Atoi(bar[1])
		must(t, err)
		n, err := strconv.Atoi(strings.ReplaceAll(bar[2], ",", ""))
		must(t, err)
		packets += n
		if slots > limit {
			over += n
		}
	}
	if packets != 3100 || over != 60 {
		t.Errorf("the bars show %d packets, %d over the limit: want 3100 and 60", packets, over)
	}
}

// However and whenever the demo is ended, nothing is left of it.
func TestDemoEndedEarly(t *testing.T) {
	need.Root(t, "to make network namespaces")
	for _, test := range []struct {
		name   string
		after  string // what it has said by then
		signal unix.Signal
		status int
	}{
		{"at once", "", unix.SIGINT, 0},
		{"while it explains", "This takes about 15 s", unix.SIGINT, 0},
		{"while it watches", "demo0 over_limit", unix.SIGINT, 0},
		{"SIGTERM", "demo0 over_limit", unix.SIGTERM, 0},
		{"kill -9", "demo0 over_limit", unix.SIGKILL, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := alone(t)
			demo := launchXentrace(t, "demo")
			eventually(t, test.after, func() bool { return strings.Contains(demo.stdout.String(), test.after) })
			namespaces := otherNamespaces(t, demo.cmd.Process.Pid)
			var held holdings
			if strings.Contains(test.after, "over_limit") {
				held = holdingsOf(t, demo.cmd.Process.Pid)
			}
			if test.after != "" && len(namespaces) != 2 {
				t.Errorf("it has %d namespaces, want 2", len(namespaces))
			}
			demo.signal(test.signal)
			status := demo.wait()
			// A signal that comes before it is caught ends the program all the same.
			if status != test.status && (test.after != "" || status != -1) {
				t.Errorf("status %d, want %d: %s", status, test.status, demo.stderr.String())
			}
			held.gone(t)
			checkDemoGone(t, demo, namespaces, before, test.status == 0 && test.after != "")
		})
	}
}

// checkDemoGone looks at what the demo leaves. orderly: it removed the network
// itself, and said so; a killed one leaves that to the kernel, which waits for
// the test to released the namespaces.
func checkDemoGone(t *testing.T, demo *program, namespaces []*os.File, before []string, orderly bool) {
	t.Helper()
	if after := surroundings(t); !slices.Equal(before, after) {
		t.Errorf("there is %v now, and was %v", after, before)
	}
	if !orderly {
		return
	}
	for _, n := range namespaces {
		if names := interfacesIn(t, n); len(names) != 0 {
			t.Errorf("namespace still has %v", names)
		}
	}
	if closing := lastLine(demo.stdout.String()); closing != "Interrupted: the demo's network is removed." {
		t.Errorf("it closes with %q", closing)
	}
}

// A reader that goes away ends the demo.
func TestDemoWithoutReader(t *testing.T) {
	need.Root(t, "to make network namespaces")
	for _, after := range []string{"This takes about 15 s", "TIME"} {
		t.Run(after, func(t *testing.T) {
			before := alone(t)
			read, write, err := os.Pipe()
			must(t, err)
			cmd := exec.Command(xentrace, "demo")
			cmd.Stdout = write
			demo := launch(t, cmd)
			must(t, write.Close())
			lines := bufio.NewReader(read)
			for line := ""; !strings.HasPrefix(line, after); {
				line, err = lines.ReadString('\n')
				must(t, err)
			}
			namespaces := otherNamespaces(t, cmd.Process.Pid)
			must(t, read.Close())
			if status := demo.wait(); status != 0 || strings.Contains(demo.stderr.String(), "pipe") {
				t.Errorf("status %d: %s", status, demo.stderr.String())
			}
			for _, n := range namespaces {
				if names := interfacesIn(t, n); len(names) != 0 {
					t.Errorf("namespace still has %v", names)
				}
			}
			if after := surroundings(t); !slices.Equal(before, after) {
				t.Errorf("there is %v now, and was %v", after, before)
			}
		})
	}
}
