//go:build !cgo

package sandbox

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/role"
)

func TestMain(m *testing.M) {
	role.Main(map[string]role.Role{"sandboxed": tryAll})
	os.Exit(m.Run())
}

// attempts are what a process may try, by the name in its output.
var attempts = map[string]func() error{
	"execute": func() error {
		_, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
		return err
	},
	"write": func() error {
		file, err := os.CreateTemp("", "xentrace-sandbox-")
		if err == nil {
			_ = os.Remove(file.Name())
		}
		return err
	},
	"remove":   func() error { return os.Remove(os.Getenv("XENTRACE_TEST_VICTIM")) },
	"read etc": func() error { _, err := os.ReadFile("/etc/passwd"); return err },
	"read proc": func() error {
		_, err := os.ReadFile("/proc/stat")
		return err
	},
	"read own namespace": func() error {
		file, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			err = file.Close()
		}
		return err
	},
	"read parent's namespace": func() error {
		_, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", os.Getppid()))
		return err
	},
	"packet socket": func() error { return opened(unix.AF_PACKET, unix.SOCK_DGRAM) },
	"netlink socket": func() error {
		return opened(unix.AF_NETLINK, unix.SOCK_RAW)
	},
	"send": func() error {
		conn, err := net.Dial("udp", "127.0.0.1:9")
		if err == nil {
			_ = conn.Close()
		}
		return err
	},
	"ptrace": func() error { return unix.PtraceAttach(os.Getppid()) },
	"mount":  func() error { return unix.Mount("none", "/proc", "tmpfs", 0, "") },
	"threads": func() error {
		done := make(chan error)
		for range 20 { // more threads than there are now
			go func() { done <- unix.Nanosleep(&unix.Timespec{Nsec: int64(20 * time.Millisecond)}, nil) }()
		}
		for range 20 {
			if err := <-done; err != nil {
				return err
			}
		}
		return nil
	},
	"list directory": func() error { _, err := os.ReadDir("/proc/self/task"); return err },
	"time zone": func() error {
		_, err := os.Stat("/etc/localtime")
		return err
	},
}

func opened(family, kind int) error {
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// tryAll is the process of [sandboxed].
func tryAll(args []string) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	p := Policy{Namespaces: strings.Contains(args[0], "namespaces"), Processes: strings.Contains(args[0], "processes"), Send: strings.Contains(args[0], "send")}
	for range 2 {
		if err := Enter(p); err != nil {
			return err
		}
	}
	for name, attempt := range attempts {
		if err := attempt(); err != nil {
			fmt.Printf("refused %s: %v\n", name, err)
		} else {
			fmt.Printf("possible %s:\n", name)
		}
	}
	return nil
}

// sandboxed returns which attempts are refused to a process with this policy.
func sandboxed(t *testing.T, policy string) map[string]bool {
	t.Helper()
	victim, err := os.CreateTemp("", "xentrace-victim-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(victim.Name()) }()
	child := role.Command("sandboxed", policy)
	child.Env = append(child.Env, "XENTRACE_TEST_VICTIM="+victim.Name())
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	refused := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		word, rest, _ := strings.Cut(line, " ")
		name, _, _ := strings.Cut(rest, ":")
		if _, is := attempts[name]; is {
			refused[name] = word == "refused"
			t.Log(strings.TrimSpace(line))
		}
	}
	if len(refused) != len(attempts) {
		t.Fatalf("%d of %d attempts in\n%s", len(refused), len(attempts), out)
	}
	return refused
}

func TestSandbox(t *testing.T) {
	always := []string{"execute", "write", "remove", "packet socket", "ptrace", "mount"}
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	for _, test := range []struct {
		policy  string
		refused []string
	}{
		{"none", append(always, "send", "read etc", "read parent's namespace")},
		{"send", append(always, "read etc", "read parent's namespace")},
		{"processes", append(always, "send")},
		{"namespaces processes", append(always, "send")},
	} {
		t.Run(test.policy, func(t *testing.T) {
			refused := sandboxed(t, test.policy)
			for _, name := range test.refused {
				if !refused[name] && (errno == 0 || !strings.HasPrefix(name, "read")) {
					t.Errorf("%s is possible (Landlock %d)", name, version)
				}
				delete(refused, name)
			}
			for name, is := range refused {
				if is {
					t.Errorf("%s is refused", name)
				}
			}
		})
	}
}
