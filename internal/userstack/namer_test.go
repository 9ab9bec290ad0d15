package userstack

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// ever is a time at which every process that is there has begun.
const ever = math.MaxUint64

// TestMain builds the program that calls: with symbols, without, and to be loaded
// anywhere.
func TestMain(m *testing.M) {
	os.Exit(run(m))
}

var built string // the directory that the programs are in

const buildID = "0123456789abcdef0123456789abcdef01234567"

func run(m *testing.M) int {
	var err error
	if built, err = os.MkdirTemp("", "userstack"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(built)
	for name, flags := range map[string][]string{
		"whole":    {"-ldflags=-B 0x" + buildID},
		"stripped": {"-ldflags=-s -w -B 0x" + buildID},
		"pie":      {"-buildmode=pie"},
	} {
		build := exec.Command("go", append(append([]string{"build", "-o", filepath.Join(built, name)}, flags...), "./testdata/caller")...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// program returns a copy of one of the programs.
func program(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(built, name))
	must(t, err)
	path := filepath.Join(t.TempDir(), "caller")
	must(t, os.WriteFile(path, data, 0o755))
	return path
}

// A caller is the running program.
type caller struct {
	pid       int
	addresses []uint64
	end       func()
}

func start(t *testing.T, path, root string) *caller {
	t.Helper()
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	return startCommand(t, cmd)
}

func startCommand(t *testing.T, cmd *exec.Cmd) *caller {
	t.Helper()
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	must(t, err)
	output, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &caller{pid: cmd.Process.Pid}
	ended := false
	c.end = func() {
		if !ended {
			ended = true
			_ = input.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(c.end)
	line, err := bufio.NewReader(output).ReadString('\n')
	must(t, err)
	for _, word := range strings.Fields(line) {
		var address uint64
		_, err := fmt.Sscanf(word, "0x%x", &address)
		must(t, err)
		c.addresses = append(c.addresses, address)
	}
	if len(c.addresses) != 3 {
		t.Fatalf("addresses %q", line)
	}
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect compares frames with patterns.
func expect(t *testing.T, frames []string, want ...string) {
	t.Helper()
	if len(frames) != len(want) {
		t.Fatalf("frames %q: want %d", frames, len(want))
	}
	for i, pattern := range want {
		if !regexp.MustCompile("^" + pattern + "$").MatchString(frames[i]) {
			t.Errorf("frame %d is %q, want %s", i, frames[i], pattern)
		}
	}
}

// named are the frames of the caller where its file has symbols.
func named(path string) []string {
	at := ` \(` + regexp.QuoteMeta(path) + `\)`
	return []string{`main\.inner\+0x[0-9a-f]+` + at, `main\.outer\+0x[0-9a-f]+` + at, `main\.main\+0x[0-9a-f]+` + at}
}

// bare are its frames where it has none.
func bare(c *caller, path string) []string {
	var want []string
	for _, address := range c.addresses {
		want = append(want, fmt.Sprintf(`\[unknown\] %#x \(%s\+0x[0-9a-f]+\)`, address, regexp.QuoteMeta(path)))
	}
	return want
}

// gone are its frames where the process is not the one that it was.
func gone(c *caller) []string {
	var want []string
	for _, address := range c.addresses {
		want = append(want, fmt.Sprintf(`\[unknown\] %#x`, address))
	}
	return want
}

func TestFramesOfProcess(t *testing.T) {
	path := program(t, "whole")
	c := start(t, path, "")
	n := New()
	expect(t, n.Name(c.pid, ever, c.addresses), named(path)...)
	expect(t, n.Name(c.pid, ever, c.addresses), named(path)...)
	if n.searched != 3 {
		t.Errorf("%d searches for 3 addresses that were asked for twice", n.searched)
	}
	expect(t, n.Name(c.pid, ever, []uint64{1}), `\[unknown\] 0x1`)
	expect(t, n.Name(c.pid, ever, nil))
	expect(t, n.Name(c.pid, 0, c.addresses), gone(c)...) // the number was another's at that time
	c.end()
	expect(t, n.Name(c.pid, ever, c.addresses), gone(c)...)
}

func TestFramesOfPositionIndependentProgram(t *testing.T) {
	path := program(t, "pie")
	c := start(t, path, "")
	expect(t, New().Name(c.pid, ever, c.addresses), named(path)...)
}

func TestFramesWithoutSymbols(t *testing.T) {
	path := program(t, "stripped")
	c := start(t, path, "")
	n := New()
	expect(t, n.Name(c.pid, ever, c.addresses), bare(c, path)...)
	n = New()
	n.debug = t.TempDir()
	must(t, os.MkdirAll(n.debug+"/.build-id/"+buildID[:2], 0o755))
	must(t, os.Rename(program(t, "whole"), n.debug+"/.build-id/"+buildID[:2]+"/"+buildID[2:]+".debug"))
	expect(t, n.Name(c.pid, ever, c.addresses), named(path)...)
}

// With its own root, though in our mount namespace: the path is as we see it.
func TestFramesInAnotherRoot(t *testing.T) {
	need.Root(t, "to change the root directory")
	path := program(t, "whole")
	root := t.TempDir()
	must(t, os.Rename(path, root+"/program"))
	c := start(t, "/program", root)
	expect(t, New().Name(c.pid, ever, c.addresses), named(root+"/program")...)
}

// As in a container: the path is as the process sees it, and leads elsewhere outside.
func TestFramesInAnotherMountNamespace(t *testing.T) {
	need.Root(t, "to make a mount namespace")
	root := t.TempDir()
	must(t, os.Mkdir(root+"/bin", 0o755))
	must(t, os.Rename(program(t, "whole"), root+"/bin/caller"))
	unshared := exec.Command("unshare", "--mount", "sh", "-ec",
		`mount --bind "$0" "$0"; cd "$0"; mkdir old; pivot_root . old; exec /bin/caller`, root)
	c := startCommand(t, unshared)
	expect(t, New().Name(c.pid, ever, c.addresses), named("/bin/caller")...)
}

func TestFileIsNotTheOneMapped(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return os.Rename(program(t, "whole"), path) },
		"pipe": func(path string) error {
			must(t, os.Remove(path))
			return unix.Mkfifo(path, 0o644)
		},
		"link out of the root": func(path string) error {
			must(t, os.Remove(path))
			return os.Symlink("/proc/self/exe", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := program(t, "whole")
			c := start(t, path, "")
			must(t, replace(path))
			expect(t, New().Name(c.pid, ever, c.addresses), bare(c, path)...)
		})
	}
}

func TestSearchesAreLimited(t *testing.T) {
	path := program(t, "whole")
	c := start(t, path, "")
	n := New()
	n.since, n.searched = time.Now().Add(time.Hour), maxSearches
	expect(t, n.Name(c.pid, ever, c.addresses), bare(c, path)...)
	n.since = time.Time{}
	expect(t, n.Name(c.pid, ever, c.addresses), named(path)...)
}

func FuzzImage(f *testing.F) {
	seed, err := os.ReadFile("../../bpf/xentrace_x86_bpfel.o")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed[:4096], uint64(64))
	f.Add(seed, uint64(128))
	f.Add([]byte("\x7fELF\x02\x01\x01"), uint64(0))
	f.Fuzz(func(_ *testing.T, data []byte, address uint64) {
		image, err := parseImage(strings.NewReader(string(data)), int64(len(data)))
		if err != nil {
			return
		}
		image.addressOf(address)
		image.buildID()
		for _, section := range image.Sections {
			image.find(section.Type, address)
		}
	})
}

// A file without end that says of itself what it likes is not read for long.
func TestHostileTables(t *testing.T) {
	seed, err := os.ReadFile("../../bpf/xentrace_x86_bpfel.o")
	must(t, err)
	file := filepath.Join(t.TempDir(), "large")
	must(t, os.WriteFile(file, seed, 0o644))
	must(t, os.Truncate(file, maxFileBytes+1))
	large, err := os.Open(file)
	must(t, err)
	defer large.Close()
	if _, err := parseImage(large, maxFileBytes+1); err != errTooLarge {
		t.Errorf("error is %v, want %v", err, errTooLarge)
	}
	many := append([]byte{}, seed...)
	many[0x3c], many[0x3d] = 0xff, 0xff // sections
	if _, err := parseImage(strings.NewReader(string(many)), int64(len(many))); err != errTooLarge {
		t.Errorf("error is %v, want %v", err, errTooLarge)
	}
	if _, err := parseImage(io.NewSectionReader(large, 0, 10), 10); err == nil {
		t.Error("a file of ten bytes is a program")
	}
}
