//go:build !cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/test/need"
)

const runVariable = "XENTRACE_TEST_RUN"

// TestMain is xentrace where a test runs this binary for it.
func TestMain(m *testing.M) {
	if os.Getenv(runVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A row of the table in docs/security.md.
type row struct{ command, uid, capabilities, noNewPrivs, seccomp string }

func documented(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n| command | Uid |")
	table, _, _ = strings.Cut(table, "\n\n")
	var rows []row
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| `") && len(cells) == 8 {
			for n := range cells {
				cells[n] = strings.TrimSpace(cells[n])
			}
			rows = append(rows, row{strings.Trim(cells[1], "`"), cells[2], cells[3], cells[4], cells[5]})
		}
	}
	if len(rows) < 8 {
		t.Fatalf("%d rows in the table, want at least 8", len(rows))
	}
	return rows
}

// link is a veth pair in namespaces of its own, whose near end has an address.
func link(t *testing.T) *network.Namespace {
	t.Helper()
	near, err := network.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	far, err := network.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	err = network.Join(
		network.End{Namespace: near, Name: "near", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
		network.End{Namespace: far, Name: "far"}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near
}

// What the documentation says of each command is what its process has once attached.
func TestPrivilegesOnceAttached(t *testing.T) {
	need.Root(t, "to attach")
	near := link(t)
	for _, r := range documented(t) {
		if strings.HasPrefix(r.command, "check ") { // observes interfaces of xen-netfront only
			continue
		}
		t.Run(r.command, func(t *testing.T) {
			process := run(t, near, r.command)
			var got row
			for deadline := time.Now().Add(time.Minute); got.seccomp != "2"; time.Sleep(10 * time.Millisecond) {
				now, err := status(process.Process.Pid)
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("%v, last %+v", err, got)
				}
				got = now
			}
			got.command = r.command
			if got != r {
				t.Errorf("has\n%+v, documented is\n%+v", got, r)
			}
		})
	}
}

// run starts a command as the table has it. It ends with the test.
func run(t *testing.T, near *network.Namespace, command string) *exec.Cmd {
	t.Helper()
	args := strings.Fields(command)
	for n := range args {
		args[n] = strings.NewReplacer("NAME", "near", "TIME", "1m").Replace(args[n])
	}
	switch args[0] {
	case "watch", "hist":
		args = append(args, "--backend", "tracepoint")
	case "record":
		args = append(args, "--backend", "tracepoint")
		if !strings.Contains(command, "--dir") {
			args = append(args, "--dir", filepath.Join(t.TempDir(), "recording"))
		}
	case "probe": // nobody answers there, so that it waits
		args = append(args, "--backend", "tracepoint", "--to", "192.0.2.77:9")
	}
	process := exec.Command(os.Args[0], args...)
	process.Env = append(os.Environ(), runVariable+"=1")
	process.Stderr = &bytes.Buffer{}
	if err := near.Do(process.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if process.ProcessState != nil {
			return
		}
		_ = process.Process.Signal(unix.SIGINT)
		if err := process.Wait(); err != nil && process.ProcessState.ExitCode() > 3 {
			t.Errorf("%s: %v: %s", command, err, process.Stderr)
		}
	})
	return process
}

// names are the capabilities that commands keep, in the order of the alphabet.
var names = []struct {
	name string
	bit  uint
}{
	{"CAP_BPF", unix.CAP_BPF}, {"CAP_DAC_READ_SEARCH", unix.CAP_DAC_READ_SEARCH}, {"CAP_NET_ADMIN", unix.CAP_NET_ADMIN},
	{"CAP_PERFMON", unix.CAP_PERFMON}, {"CAP_SYSLOG", unix.CAP_SYSLOG}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
	{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},
}

// status reads what a process has, the same on all its threads.
func status(pid int) (row, error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return row{}, err
	}
	var all row
	for n, thread := range threads {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, thread.Name()))
		if err != nil {
			continue // ended
		}
		one, err := parse(string(text))
		if err != nil {
			return row{}, err
		}
		if n > 0 && one != all {
			return row{}, nil // in the middle of it
		}
		all = one
	}
	return all, nil
}

func parse(text string) (row, error) {
	fields := make(map[string][]string)
	for line := range strings.Lines(text) {
		key, rest, _ := strings.Cut(line, ":")
		fields[key] = strings.Fields(rest)
	}
	for _, key := range []string{"Uid", "CapEff", "CapBnd", "CapPrm", "NoNewPrivs", "Seccomp"} {
		if len(fields[key]) == 0 {
			return row{}, fmt.Errorf("no %s in status", key)
		}
	}
	set, err := strconv.ParseUint(fields["CapEff"][0], 16, 64)
	if err != nil {
		return row{}, err
	}
	var kept []string
	for _, c := range names {
		if set>>c.bit&1 == 1 {
			kept = append(kept, c.name)
			set &^= 1 << c.bit
		}
	}
	if set != 0 || fields["CapEff"][0] != fields["CapBnd"][0] || fields["CapEff"][0] != fields["CapPrm"][0] {
		kept = []string{"CapEff", fields["CapEff"][0], "CapPrm", fields["CapPrm"][0], "CapBnd", fields["CapBnd"][0]}
	}
	return row{uid: fields["Uid"][0], capabilities: strings.Join(kept, " "), noNewPrivs: fields["NoNewPrivs"][0], seccomp: fields["Seccomp"][0]}, nil
}

// What is recorded is written by a process that has dropped its privileges, also to a
// directory that is removed meanwhile.
func TestRecordingOnceAttached(t *testing.T) {
	need.Root(t, "to attach")
	near := link(t)
	t.Run("directory", func(t *testing.T) {
		directory := filepath.Join(t.TempDir(), "recording")
		process := run(t, near, "record -i NAME --dir "+directory)
		segments := func() int {
			found, err := filepath.Glob(filepath.Join(directory, "xentrace-*"))
			if err != nil {
				t.Fatal(err)
			}
			return len(found)
		}
		for range 2 {
			for deadline := time.Now().Add(time.Minute); segments() == 0 || !confined(process.Process.Pid); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("no segment after a minute")
				}
			}
			if err := os.RemoveAll(directory); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "recording.jsonl")
		process := run(t, near, "watch -i NAME -w "+path)
		for deadline := time.Now().Add(time.Minute); !confined(process.Process.Pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("privileges are not dropped after a minute")
			}
		}
		if err := errors.Join(process.Process.Signal(unix.SIGINT), process.Wait()); err != nil {
			t.Fatalf("%v: %s", err, process.Stderr)
		}
		if text, err := os.ReadFile(path); err != nil || !bytes.Contains(text, []byte(`"type":"summary"`)) {
			t.Errorf("no summary in %q, %v", text, err)
		}
	})
}

func confined(pid int) bool {
	now, err := status(pid)
	return err == nil && now.seccomp == "2"
}
