package userstack

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

const nobody = 65534

// asNobody makes a command run as a user without privilege.
func asNobody(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// needUserNamespaces skips the test unless any user may create user namespaces.
func needUserNamespaces(t *testing.T) {
	t.Helper()
	need.Root(t, "to run a program as another user")
	need.Tool(t, "unshare")
	need.Kernel(t, "unprivileged user namespaces", asNobody(exec.Command("unshare", "--user", "--map-root-user", "--mount", "true")).Run())
}

// A watch counts how often a file was opened other than by O_PATH.
type watch int

func watchOpens(t *testing.T, path string) watch {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	_, err = unix.InotifyAddWatch(fd, path, unix.IN_OPEN)
	must(t, err)
	return watch(fd)
}

func (w watch) opens(t *testing.T) int {
	t.Helper()
	events := make([]byte, 4096)
	n, err := unix.Read(int(w), events)
	if err == unix.EAGAIN {
		return 0
	}
	must(t, err)
	return n / unix.SizeofInotifyEvent
}

// What a user put in the place of a mapped file is not opened unless it is a regular file:
// opening a device acts on it.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	zero := func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }
	for name, test := range map[string]struct {
		node    func(path string) error
		mounted bool // over the mapped file, in namespaces of the process
	}{
		"FIFO":                {func(path string) error { return unix.Mkfifo(path, 0o666) }, false},
		"device":              {zero, false},
		"bind-mounted FIFO":   {func(path string) error { return unix.Mkfifo(path, 0o666) }, true},
		"bind-mounted device": {zero, true},
	} {
		t.Run(name, func(t *testing.T) {
			need.Root(t, "to make a device")
			path := program(t, "whole")
			must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
			node := filepath.Join(filepath.Dir(path), "node")
			must(t, test.node(node))
			must(t, os.Chmod(node, 0o666))
			var c *caller
			want := named(path) // found from the root of this process
			if test.mounted {
				needUserNamespaces(t)
				c = startCommand(t, asNobodyInDirectory(exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec",
					`exec 9<"$0"; mount --bind "$1" "$0"; exec /proc/self/fd/9`, path, node)))
			} else {
				c = start(t, path, "")
				must(t, os.Rename(node, path))
				node, want = path, bare(c, path)
			}
			w := watchOpens(t, node)
			expect(t, c.name(New()), want...)
			if n := w.opens(t); n != 0 {
				t.Errorf("opened %d times, want 0", n)
			}
			file, err := os.OpenFile(node, os.O_RDONLY|unix.O_NONBLOCK, 0)
			must(t, err)
			must(t, file.Close())
			if n := w.opens(t); n != 1 {
				t.Errorf("the watch counts %d opens of 1", n)
			}
		})
	}
}

func asNobodyInDirectory(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = "/"
	return asNobody(cmd)
}
