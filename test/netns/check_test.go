package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
	"xentrace/test/refuse"
)

// check says in sentences what it cannot see, wherever it runs.
func TestCheckAnywhere(t *testing.T) {
	need.Root(t, "to run the program as several users")
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, test := range []struct {
		name    string
		command []string
		as      *syscall.SysProcAttr
		status  int
		says    string // part of what it writes
	}{
		{"as root", []string{xentrace, "check"}, nil, 0, "OK      driver: No interface is driven by xen-netfront"},
		{"as nobody", []string{xentrace, "check"}, &syscall.SysProcAttr{Credential: nobody}, 0, "Other network namespaces were not checked: that needs root."},
		{"as nobody, a driver's file", []string{xentrace, "check", "--driver-file", xentrace}, &syscall.SysProcAttr{Credential: nobody}, 0, "UNKNOWN linearize: Whether this driver linearizes is unknown"},
		{"a file that nobody may read", []string{xentrace, "check", "--driver-file", "/etc/shadow"}, &syscall.SysProcAttr{Credential: nobody}, 2, "driver file /etc/shadow: permission denied"},
		{"in a network namespace of its own", []string{xentrace, "check"}, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, 0, "OK      driver: No interface is driven by xen-netfront"},
		{"an interface that is not in this namespace", []string{xentrace, "check", "-i", "eth9"}, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, 3, `interface "eth9" not found`},
		{"an interface of another driver", []string{xentrace, "check", "-i", "lo", "--ec2rl"}, nil, 0, "OK      driver lo: lo is driven by"},
		{"with /sys read-only and /dev/kmsg gone", []string{"unshare", "-m", "sh", "-c", "mount -o remount,bind,ro /sys && mount -t tmpfs none /dev && exec " + xentrace + " check"}, nil, 0, "OK      driver"},
		{"without /sys", []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys && exec " + xentrace + " check"}, nil, 0, "OK      driver"},
		{"as root of a user namespace", []string{"unshare", "-Ur", xentrace, "check"}, nil, 0, "Other network namespaces were not checked: that needs root."},
		{"as root of a user namespace, tracing", []string{"unshare", "-Ur", xentrace, "watch", "-d", "1s"}, nil, 3, "this is a user namespace, as of a rootless container"},
		{"in a container", container("check"), nil, 0, "OK driver: No interface is driven by xen-netfront: these checks do not apply. Other network namespaces were not checked: processes outside this PID namespace do not show (container: --network host --pid host)."},
		{"in a container, an interface of the host", container("check -i eth9"), nil, 3, "a container has the host's interfaces with --network host"},
		{"with root's capabilities but those for namespaces", without("sys_admin,-sys_ptrace", "check"), nil, 0, "Other network namespaces were not checked: that needs CAP_SYS_ADMIN and CAP_SYS_PTRACE; root lacks it here: add it to the container (--cap-add)"},
		{"without the capability to find namespaces", without("sys_ptrace", "check"), nil, 0, "Other network namespaces were not checked: that needs CAP_SYS_PTRACE; root lacks"},
		{"without the capability to find namespaces, tracing", without("sys_ptrace", "watch"), nil, 3, "no xen-netfront interface found; use -i NAME for another driver, or --wait; other network namespaces were not searched: that needs CAP_SYS_PTRACE; root lacks"},
		{"as root, tracing", []string{xentrace, "watch"}, nil, 3, "no xen-netfront interface found; use -i NAME for another driver, or --wait"},
		{"in a container that may trace", []string{"unshare", "-pfn", "--mount-proc", xentrace, "watch"}, nil, 3, "or --wait; other network namespaces were not searched: processes outside this PID namespace do not show (container: --network host --pid host)"},
		{"in a container that may trace, an interface of the host", []string{"unshare", "-n", xentrace, "watch", "-i", "eth9"}, nil, 3, "check the name, or use --wait; a container has the host's interfaces with --network host"},
		{"in a container, beside ec2rl", container("check --ec2rl"), nil, 0, "SUCCESS xennetrocket"},
		{"in a container, observing", container("check --observe 1s"), nil, 3, "--observe: no xen-netfront interface found"},
		{"in a container, tracing", container("watch -d 1s"), nil, 3, "root lacks it here: add it to the container (--cap-add)"},
		{"without /proc", []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec " + xentrace + " check"}, nil, 3, "there is no /proc: mount it"},
		{"without /proc, tracing", []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec " + xentrace + " watch -i lo -d 1s"}, nil, 3, "there is no /proc: mount it"},
		{"without /sys, tracing", []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys && exec " + xentrace + " watch -i lo -d 1s"}, nil, 3, "there is no /sys: mount it"},
		{"without /sys, version", []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys && exec " + xentrace + " version"}, nil, 0, "BTF unknown (no /sys: mount -t sysfs sysfs /sys)"},
		{"without /sys, version as JSON", []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys && exec " + xentrace + " version -o json"}, nil, 0, `"btf":null`},
		{"with /sys, version", []string{xentrace, "version"}, nil, 0, ", with BTF"},
		{"under a release before the ring buffer's", []string{"setarch", runtimeArch(t), "--uname-2.6", xentrace, "hist", "-i", "lo", "-d", "100ms"}, nil, 0, "packets seen, 0 events"},
		{"in a PID namespace, tracing", []string{"unshare", "-pf", "--mount-proc", xentrace, "watch", "-i", "lo", "-d", "100ms"}, nil, 0, "processes outside this PID namespace do not show"},
		{"without a root to speak of", []string{"/xentrace", "check"}, &syscall.SysProcAttr{Chroot: emptyRoot(t)}, 3, "there is no /proc: mount it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(test.command[0], test.command[1:]...)
			if test.as != nil && test.as.Chroot != "" {
				cmd.Path, cmd.Err, cmd.Dir = test.command[0], nil, "/"
			}
			cmd.SysProcAttr = test.as
			cmd.Env = []string{"PATH=/usr/bin:/bin"} // no ethtool, which is in sbin
			out, err := cmd.CombinedOutput()
			status := 0
			var ended *exec.ExitError
			if errors.As(err, &ended) {
				status, err = ended.ExitCode(), nil
			}
			text := strings.Join(strings.Fields(string(out)), " ")
			if err != nil || status != test.status || !strings.Contains(text, strings.Join(strings.Fields(test.says), " ")) {
				t.Errorf("status %d, error %v, want %d and %q:\n%s", status, err, test.status, test.says, out)
			}
			if strings.Contains(text, "goroutine") || strings.Contains(text, "panic") {
				t.Errorf("a stack trace: %s", out)
			}
		})
	}
}

// A seccomp profile that forbids bpf(), and a limit on locked memory that cannot be lifted, are
// named: no privilege is missing.
func TestBPFRefused(t *testing.T) {
	for name, test := range map[string]struct {
		refuse func(run func())
		says   string
	}{
		"bpf":  {func(run func()) { refuse.Call(t, unix.SYS_BPF, run) }, "cannot run here: the system call bpf() is refused: a seccomp profile or a security module forbids it (container: --security-opt seccomp=unconfined)"},
		"maps": {func(run func()) { refuse.Command(t, unix.SYS_BPF, unix.BPF_MAP_CREATE, run) }, "cannot run here: limit of locked memory: "},
	} {
		for _, command := range []string{"watch -i lo -d 100ms", "congestion -i lo -d 100ms"} {
			var out []byte
			var err error
			test.refuse(func() {
				line := without("sys_resource", command)
				out, err = exec.Command(line[0], line[1:]...).CombinedOutput()
			})
			var ended *exec.ExitError
			if !errors.As(err, &ended) || ended.ExitCode() != 3 || !strings.Contains(string(out), test.says) {
				t.Errorf("%s, %s: %v, want status 3 and %q:\n%s", name, command, err, test.says, out)
			}
		}
	}
}

// Wherever the limit of descriptors is met, the error names it, and nothing else is blamed.
func TestFewDescriptors(t *testing.T) {
	need.Root(t, "to trace")
	for _, command := range []string{"watch", "congestion"} {
		t.Run(command, func(t *testing.T) {
			refused := 0
			for limit := 10; limit <= 26; limit++ {
				out, err := exec.Command("sh", "-c", fmt.Sprintf("ulimit -n %d && exec %s %s -i lo -d 100ms", limit, xentrace, command)).CombinedOutput()
				if err == nil {
					continue
				}
				refused++
				var ended *exec.ExitError
				says := fmt.Sprintf("too many open files: raise this process's limit of %d (ulimit -n)", limit)
				if !errors.As(err, &ended) || ended.ExitCode() != 3 || !strings.Contains(string(out), says) || strings.Contains(string(out), "requires") || strings.Contains(string(out), "defect") {
					t.Errorf("limit %d: %v, want status 3 and %q:\n%s", limit, err, says, out)
				}
			}
			if refused < 8 {
				t.Errorf("%d limits refused, want 8 at least", refused)
			}
		})
	}
}

// container is a command in namespaces of its own, as root without capabilities, with
// /sys read-only, the kernel's symbols hidden and nothing in /dev, as container engines have it.
func container(command string) []string {
	return []string{"unshare", "-m", "-p", "-f", "-n", "-i", "-u", "--mount-proc", "sh", "-c",
		"mount -o remount,bind,ro /sys && mount --bind /dev/null /proc/kallsyms && mount -t tmpfs none /dev && exec setpriv --bounding-set=-all --inh-caps=-all --clear-groups " + xentrace + " " + command}
}

// without is a command as root without some capabilities: "a,-b".
func without(capabilities, command string) []string {
	return append([]string{"setpriv", "--bounding-set=-" + capabilities, "--inh-caps=-all", xentrace}, strings.Fields(command)...)
}

// emptyRoot is a directory with nothing but the program.
func emptyRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	binary, err := os.ReadFile(xentrace)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "xentrace"), binary, 0o755))
	return root
}

// runtimeArch is the machine's architecture as setarch has it.
func runtimeArch(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("uname", "-m").Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}
