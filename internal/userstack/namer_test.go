package userstack

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/memory"
	"xentrace/test/need"
	"xentrace/test/role"
)

// ever is a time at which every process that is there has begun.
const ever = math.MaxUint64

// TestMain builds the program that calls: with symbols, without, and to be loaded
// anywhere.
func TestMain(m *testing.M) {
	role.Main(map[string]role.Role{"sandboxed": nameInSandbox})
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

func (c *caller) name(n *Namer) []string {
	return n.Name(&Call{PID: c.pid, At: ever, Addresses: c.addresses})
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
	expect(t, c.name(n), named(path)...)
	expect(t, c.name(n), named(path)...)
	if n.searched != 3 {
		t.Errorf("%d searches for 3 addresses that were asked for twice", n.searched)
	}
	expect(t, n.Name(&Call{PID: c.pid, At: ever, Addresses: []uint64{1}}), `\[unknown\] 0x1`)
	expect(t, n.Name(&Call{PID: c.pid, At: ever}))
	expect(t, n.Name(&Call{PID: c.pid, Addresses: c.addresses}), gone(c)...)                                     // the PID was another's at that time
	expect(t, n.Name(&Call{PID: c.pid, At: ever, Started: time.Nanosecond, Addresses: c.addresses}), gone(c)...) // or of another process
	c.end()
	expect(t, c.name(n), gone(c)...)
}

func TestFramesOfPositionIndependentProgram(t *testing.T) {
	path := program(t, "pie")
	c := start(t, path, "")
	expect(t, c.name(New()), named(path)...)
}

func TestFramesWithoutSymbols(t *testing.T) {
	path := program(t, "stripped")
	c := start(t, path, "")
	n := New()
	expect(t, c.name(n), bare(c, path)...)
	n = New()
	n.debug = t.TempDir()
	must(t, os.MkdirAll(n.debug+"/.build-id/"+buildID[:2], 0o755))
	must(t, os.Rename(program(t, "whole"), n.debug+"/.build-id/"+buildID[:2]+"/"+buildID[2:]+".debug"))
	expect(t, c.name(n), named(path)...)
}

// With its own root, though in our mount namespace: the path is as we see it.
func TestFramesInAnotherRoot(t *testing.T) {
	need.Root(t, "to change the root directory")
	path := program(t, "whole")
	root := t.TempDir()
	must(t, os.Rename(path, root+"/program"))
	c := start(t, "/program", root)
	expect(t, c.name(New()), named(root+"/program")...)
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
	expect(t, c.name(New()), named("/bin/caller")...)
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
			expect(t, c.name(New()), bare(c, path)...)
		})
	}
}

func FuzzImage(f *testing.F) {
	seed, err := os.ReadFile("../../bpf/xentrace_x86_bpfel.o")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, uint64(128))
	f.Add(seed[:4096], uint64(64))
	sections := slices.Clone(seed)
	sections[0x3a], sections[0x3b] = 0xff, 0xff // bytes of each
	f.Add(sections, uint64(64))
	f.Add([]byte("\x7fELF\x02\x01\x01"), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, address uint64) {
		memory.Within(t, 1<<20, func() {
			image, err := parseImage(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				return
			}
			image.addressOf(address)
			image.buildID()
			var found [2]symbol
			image.find(elf.SHT_SYMTAB, []uint64{address, address + 1}, found[:])
			image.find(elf.SHT_DYNSYM, []uint64{address, address + 1}, found[:])
		})
	})
}

// sparse makes a copy of a program in a file of 4 GiB that claims 1 GiB of names and of
// symbols. It still runs.
func sparse(t *testing.T) (path string) {
	t.Helper()
	path = program(t, "whole")
	content, err := os.ReadFile(path)
	must(t, err)
	at := sectionTable(content)
	for n := range int(binary.LittleEndian.Uint16(content[0x3c:])) {
		header := content[at+64*n:]
		if kind := elf.SectionType(binary.LittleEndian.Uint32(header[4:])); kind == elf.SHT_SYMTAB || kind == elf.SHT_STRTAB {
			binary.LittleEndian.PutUint64(header[32:], 1<<30)
		}
	}
	must(t, os.WriteFile(path, content, 0o755))
	must(t, os.Truncate(path, maxFileBytes))
	return path
}

func TestHostileTables(t *testing.T) {
	file, err := os.Open(sparse(t))
	must(t, err)
	defer file.Close()
	memory.Within(t, 1<<20, func() {
		image, err := parseImage(file, maxFileBytes)
		must(t, err)
		var found [1]symbol
		if image.find(elf.SHT_SYMTAB, []uint64{0x401000}, found[:]); found[0].name != "" {
			t.Errorf("symbol %v in a table of 1 GiB", found[0])
		}
	})
	if _, err := parseImage(file, maxFileBytes+1); err != errTooLarge {
		t.Errorf("error is %v, want %v", err, errTooLarge)
	}
}

// The same in a process of an unprivileged user: the 3.7-MiB program of the kind took 4.1 GB.
func TestSparseProgramOfUnprivilegedUser(t *testing.T) {
	need.Root(t, "to run a program as another user")
	path := sparse(t)
	must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
	c := startCommand(t, asNobodyInDirectory(exec.Command(path)))
	n := New()
	memory.Within(t, 4<<20, func() {
		for range 20 {
			expect(t, c.name(n), bare(c, path)...)
		}
	})
}

func sectionTable(file []byte) int { return int(binary.LittleEndian.Uint64(file[0x28:])) }
