package userstack

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"xentrace/internal/procfs"
	"xentrace/test/memory"
	"xentrace/test/need"
)

// fakeProcess adds a process to a fake procfs: mappings of the program, one after the other
// from address 0x400000 on, each of the whole code.
func fakeProcess(t *testing.T, root string, pid int, uid uint32, program string, mappings int) {
	t.Helper()
	info, err := os.Stat(program)
	must(t, err)
	var maps strings.Builder
	for n := range uint64(mappings) {
		fmt.Fprintf(&maps, "%x-%x r-xp 00001000 08:01 %d                      %s\n",
			0x400000+n*fakeStride, 0x400000+n*fakeStride+fakeCode, info.Sys().(*syscall.Stat_t).Ino, program)
	}
	directory := fmt.Sprintf("%s/%d", root, pid)
	must(t, os.MkdirAll(directory, 0o755))
	for name, text := range map[string]string{
		"maps": maps.String(), "stat": fmt.Sprintf("%d (a) S %s100 1\n", pid, strings.Repeat("1 ", 18)),
		"status": fmt.Sprintf("Name:\ta\nUid:\t%d\t%d\t%d\t%d\n", uid, uid, uid, uid),
	} {
		must(t, os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644))
	}
	must(t, os.Symlink("/", filepath.Join(directory, "root")))
}

const (
	fakeCode   = 0x10000 // bytes of each mapping
	fakeStride = 2 * fakeCode
)

// A user with 65,000 mappings and 2,000 drops a second, each from another place in them,
// takes no names from the records of another.
func TestOneUserTakesNoNamesFromAnother(t *testing.T) {
	root, path := t.TempDir(), program(t, "whole")
	const hostile, victim, mappings, perVictim, records = 100, 200, 65_000, 50, 40
	fakeProcess(t, root, hostile, 1000, path, mappings)
	fakeProcess(t, root, victim, 1001, path, 1)
	now := time.Unix(1000, 0)
	n := newNamer(procfs.NewProcesses(root), func() time.Time { return now })
	call := func(pid int, uid uint32, address uint64) string {
		now = now.Add(500 * time.Microsecond)
		return n.Name(&Call{PID: pid, UID: uid, At: ever, Addresses: []uint64{address}})[0]
	}
	of, namedHostile, namedVictim := uint64(0), 0, 0
	memory.Within(t, 256<<20, func() {
		for record := range uint64(records) {
			for range perVictim {
				of++
				if strings.Contains(call(hostile, 1000, 0x400000+of*31%mappings*fakeStride+fakeCode/2+of%1000), "+0x") {
					namedHostile++
				}
			}
			frame := call(victim, 1001, 0x400000+fakeCode/2+record*16)
			if !strings.HasPrefix(frame, "[unknown]") {
				namedVictim++
			}
		}
	})
	if namedVictim != records {
		t.Errorf("%d of another user's %d records are named", namedVictim, records)
	}
	if namedHostile == 0 {
		t.Error("none of the first user's records is named")
	}
	if n.cached > maxMappingsBytes || n.namedBytes > maxNamedBytes {
		t.Errorf("%d bytes of mappings and %d of names cached, limits are %d and %d", n.cached, n.namedBytes, maxMappingsBytes, maxNamedBytes)
	}
}

// The same with a process of an unprivileged user that really has them.
func TestManyMappingsOfUnprivilegedUser(t *testing.T) {
	need.Root(t, "to run programs as other users")
	path := program(t, "whole")
	must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
	run := func(uid uint32, environment ...string) *caller {
		cmd := exec.Command(path)
		cmd.Dir, cmd.Env = "/", environment
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		return startCommand(t, cmd)
	}
	hostile, victim := run(nobody, "MAPPINGS=1"), run(nobody-1)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", hostile.pid))
	must(t, err)
	if lines := bytes.Count(maps, []byte("\n")); lines < 65_000 {
		t.Fatalf("%d mappings, want 65,000: vm.max_map_count may be lower than its default", lines)
	}
	n, places := New(), executable(t, maps)
	memory.Within(t, 256<<20, func() {
		for record := range 40 {
			for i := range 50 {
				n.Name(&Call{PID: hostile.pid, UID: nobody, At: ever, Addresses: []uint64{places[(record*50+i)*31%len(places)] + uint64(record)}})
			}
			expect(t, n.Name(&Call{PID: victim.pid, UID: nobody - 1, At: ever, Addresses: victim.addresses}), named(path)...)
		}
	})
}

// executable returns an address in each executable mapping.
func executable(t *testing.T, maps []byte) (addresses []uint64) {
	t.Helper()
	for line := range strings.Lines(string(maps)) {
		if m, ok := parseMapping(line); ok {
			addresses = append(addresses, m.start+1)
		}
	}
	return addresses
}

// The mappings of a process are read once for many calls, and not for every garbage address.
func TestMappingsAreCached(t *testing.T) {
	root, path := t.TempDir(), program(t, "whole")
	fakeProcess(t, root, 100, 1000, path, 1)
	now := time.Unix(1000, 0)
	n := newNamer(procfs.NewProcesses(root), func() time.Time { return now })
	read := func() int { // bytes, for a call of an address that is mapped and one that is not
		before := n.budget.used[1000]
		for range 10 {
			n.Name(&Call{PID: 100, UID: 1000, At: ever, Addresses: []uint64{0x400000 + fakeCode/2, 1}})
		}
		return n.budget.used[1000] - before
	}
	if first := read(); first < workOfFile {
		t.Fatalf("%d bytes read at first, want at least %d", first, workOfFile)
	}
	if again := read(); again != 0 {
		t.Errorf("%d bytes read again, want 0", again)
	}
	now = now.Add(rereadAfter)
	if later := read(); later < workOfFile || later >= workOfFile+4096 {
		t.Errorf("%d bytes read after %v, want one reading", later, rereadAfter)
	}
}

// Names and mappings that users choose do not fill the memory.
func TestCachesAreBounded(t *testing.T) {
	n := newNamer(procfs.NewProcesses(t.TempDir()), time.Now)
	long := strings.Repeat("x", 4096)
	for pid := range 4096 {
		n.remember(pid, &process{mappings: []*mapping{{path: long}}})
		n.learn(learned{file: fileVersion{inode: uint64(pid)}, offsets: []uint64{1, 2}, symbols: []symbol{{name: long[:512]}, {}}})
	}
	if limit := maxMappingsBytes / 4096; len(n.processes) > limit || len(n.processes) == 0 {
		t.Errorf("%d processes are cached, limit is %d", len(n.processes), limit)
	}
	if limit := 2 * maxNamedBytes / 512; len(n.named) > limit || len(n.named) == 0 {
		t.Errorf("%d names are cached, limit is %d", len(n.named), limit)
	}
	if shown := shownPath(long); len(shown) != maxPathBytes {
		t.Errorf("a path of %d bytes is shown, limit is %d", len(shown), maxPathBytes)
	}
}

// endless repeats a text.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.text[e.at:])
	e.at = (e.at + n) % len(e.text)
	return n, nil
}

func TestMapsAreReadWithinLimits(t *testing.T) {
	for name, text := range map[string]string{
		"long lines": "400000-500000 r-xp 00000000 08:01 7 /" + strings.Repeat("x", procfs.MaxLine) + "\n",
		"one line":   "400000-500000 r-xp 00000000 08:01 7 /",
		"short ones": "1-2 r-xp 0 08:01 7 /a\n",
	} {
		t.Run(name, func(t *testing.T) {
			memory.Within(t, 1<<20, func() {
				found, read, err := parseMappings(io.LimitReader(&endless{text: text}, maxMapsBytes), []uint64{0x400001})
				if len(found) > 1 || read > maxMapsBytes+1 || // the last line is cut
					err != nil {
					t.Errorf("%d mappings in %d bytes, error %v", len(found), read, err)
				}
			})
		})
	}
}

func FuzzMaps(f *testing.F) {
	f.Add("400000-500000 r-xp 00001000 08:01 1234                      /usr/bin/a b (deleted)\n", uint64(0x400001))
	f.Add("400000-500000 r-xp 00001000 08:01 0 \n", uint64(0x400001))
	f.Add("400000-500000 r-xp 00001000 08:01 18446744073709551616 /a\n", uint64(0x400001))
	f.Add(strings.Repeat("0-ffffffffffffffff r-xp 0 0 1 /a\n", 200), uint64(1))
	f.Add("400000-500000 rwxp 0 0 7 /"+strings.Repeat("x", procfs.MaxLine), uint64(0x400001))
	f.Fuzz(func(t *testing.T, maps string, address uint64) {
		memory.Within(t, 1<<20+16*uint64(len(maps)), func() {
			found, read, err := parseMappings(strings.NewReader(maps), []uint64{address})
			if err != nil || read > len(maps)+1 {
				t.Fatalf("%d bytes read of %d, error %v", read, len(maps), err)
			}
			for _, m := range found {
				if !m.holds(address) || m.path == "" {
					t.Errorf("mapping %+v for address %#x", m, address)
				}
			}
		})
	})
}
