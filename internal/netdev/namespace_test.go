package netdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/memory"
	"xentrace/test/need"
)

func TestNamespacesFindsEachOnce(t *testing.T) {
	a, b := newProcess(t), newProcess(t)
	found, err := Namespaces(t.Context())
	must(t, err)
	seen := make(map[uint32]int)
	for _, f := range found {
		seen[f.Inum]++
	}
	current, err := Current()
	must(t, err)
	defer current.Close()
	for _, inum := range []uint32{a.Inum, b.Inum, current.Inum()} {
		if seen[inum] != 1 {
			t.Errorf("namespace %d is listed %d times, want 1", inum, seen[inum])
		}
	}
	for i := 1; i < len(found); i++ {
		if found[i-1].Inum >= found[i].Inum {
			t.Errorf("namespace %d stands before %d", found[i-1].Inum, found[i].Inum)
		}
	}
}

func TestNamespacesFindsBindMounts(t *testing.T) {
	p := newProcess(t)
	file := filepath.Join(t.TempDir(), "a b\\c")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, unix.Mount(p.Path, file, "", unix.MS_BIND, ""))
	defer unix.Unmount(file, unix.MNT_DETACH)
	p.end()

	ns, err := OpenNamespace(t.Context(), p.Inum)
	must(t, err)
	defer ns.Close()
	if ns.Inum() != p.Inum || ns.Path() != file {
		t.Errorf("opened %d at %q, want %d at %q", ns.Inum(), ns.Path(), p.Inum, file)
	}
	if lo := byName(t, ns, "lo"); lo.Namespace != p.Inum {
		t.Errorf("lo is in %d, want %d", lo.Namespace, p.Inum)
	}
}

func TestNamespaceThatEnded(t *testing.T) {
	p := newProcess(t)
	p.end()
	_, err := OpenNamespace(t.Context(), p.Inum)
	if !errors.Is(err, ErrNamespaceNotFound) || !strings.Contains(fmt.Sprint(err), fmt.Sprint(p.Inum)) {
		t.Errorf("error is %v, want one that says namespace %d is not found", err, p.Inum)
	}
	if _, err := p.Open(); !errors.Is(err, ErrNamespaceNotFound) {
		t.Errorf("error is %v, want %v", err, ErrNamespaceNotFound)
	}
	other := newProcess(t)
	if _, err := (Found{Inum: p.Inum, Path: other.Path}).Open(); !errors.Is(err, ErrNamespaceNotFound) {
		t.Errorf("opening another namespace's path gives %v, want %v", err, ErrNamespaceNotFound)
	}
	if _, err := (Found{Inum: 1, Path: "/proc/self/ns/mnt"}).Open(); err == nil {
		t.Error("a mount namespace was opened as a network namespace")
	}
}

func TestOpeningLeavesNoThreadElsewhere(t *testing.T) {
	noLeaks(t)
	p := newProcess(t)
	for range 50 {
		ns, err := p.Open()
		must(t, err)
		if _, err := ns.Interfaces(); err != nil {
			t.Fatal(err)
		}
		must(t, ns.Close())
	}
	own, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	must(t, err)
	for _, task := range tasks {
		if target, err := os.Readlink(task); err == nil && target != own {
			t.Errorf("%s is %s, want %s", task, target, own)
		}
	}
	p.end()
}

func TestClosedNamespace(t *testing.T) {
	ns := newNamespace(t)
	must(t, ns.Close())
	must(t, ns.Close())
	calls := map[string]func() error{
		"Interfaces": func() error { _, err := ns.Interfaces(); return err },
		"ByName":     func() error { _, err := ns.ByName("lo"); return err },
		"ByIndex":    func() error { _, err := ns.ByIndex(1); return err },
		"Counters":   func() error { _, err := ns.Counters(1); return err },
		"Features":   func() error { _, err := ns.Features(1); return err },
		"Watch":      func() error { _, err := ns.Watch(t.Context()); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s gives %v, want %v", name, err, ErrClosed)
		}
	}
}

func TestMountedNamespaces(t *testing.T) {
	// Root may make mounts with options of any length.
	info := "80 22 0:4 / /m rw - overlay overlay rw,lowerdir=" + strings.Repeat("net:[1] ", 20<<10) + `
22 1 0:20 / /sys rw - sysfs sysfs rw
90 22 0:4 net:[4026532210] /var/run/netns/one rw shared:40 - nsfs nsfs rw
91 22 0:4 net:[4026532210] /run/netns/one rw shared:40 - nsfs nsfs rw
92 22 0:4 mnt:[4026532211] /run/snapd/ns/x.mnt rw - nsfs nsfs rw
93 22 0:4 net:[4026532212] /run/docker/netns/a\040b\134 rw - nsfs nsfs rw
94 22 0:4 net:[99999999999] /run/netns/large rw - nsfs nsfs rw
95 22 0:4 net:[12 /run/netns/torn rw - nsfs nsfs rw
`
	found, err := mountedNamespaces(strings.NewReader(info))
	must(t, err)
	want := map[uint32]string{4026532210: "/run/netns/one", 4026532212: `/run/docker/netns/a b\`}
	if len(found) != len(want) {
		t.Errorf("found %v, want %v", found, want)
	}
	for inum, path := range want {
		if found[inum] != path {
			t.Errorf("namespace %d is at %q, want %q", inum, found[inum], path)
		}
	}
}

func FuzzMountedNamespaces(f *testing.F) {
	f.Add("90 22 0:4 net:[4026532210] /var/run/netns/one rw shared:40 - nsfs nsfs rw\n")
	f.Add("93 22 0:4 net:[4026532212] /run/docker/netns/a\\040b\\134\\0 rw - nsfs nsfs rw")
	f.Add("1 1 1 net:[ net:[ \\\\400\\")
	f.Add("80 22 0:4 / /m rw - overlay overlay rw,lowerdir=" + strings.Repeat("net:[1] ", 20<<10))
	f.Fuzz(func(t *testing.T, mountinfo string) {
		memory.Within(t, 1<<20+128*uint64(len(mountinfo)), func() {
			found, err := mountedNamespaces(strings.NewReader(mountinfo))
			if err != nil || len(found) > strings.Count(mountinfo, "net:[") {
				t.Errorf("%d namespaces, error %v", len(found), err)
			}
			for _, path := range found {
				if len(path) > len(mountinfo) {
					t.Errorf("path of %d bytes in %d", len(path), len(mountinfo))
				}
			}
		})
	})
}

// A namespace that only a thread of this process lives in is found all the same.
func TestOpenNamespaceOfAThread(t *testing.T) {
	need.Root(t, "to make network namespaces")
	made, leave, left := make(chan uint32), make(chan struct{}), make(chan struct{})
	go func() {
		// The process's first thread, if it is that one, does not end with its goroutine.
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		defer func() {
			if err := errors.Join(unix.Setns(int(home.Fd()), unix.CLONE_NEWNET), home.Close()); err != nil {
				t.Error(err)
			}
			runtime.UnlockOSThread()
			close(left)
		}()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		ns, err := Current()
		if err != nil {
			t.Error(err)
			close(made)
			return
		}
		inum := ns.Inum()
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
		made <- inum
		<-leave
	}()
	inum := <-made
	defer func() { close(leave); <-left }()
	ns, err := OpenNamespace(t.Context(), inum)
	must(t, err)
	if ns.Inum() != inum {
		t.Errorf("namespace %d, want %d", ns.Inum(), inum)
	}
	interfaces, err := ns.Interfaces()
	if err != nil || len(interfaces) != 1 || !interfaces[0].Loopback {
		t.Errorf("interfaces %v, error %v: want lo alone", interfaces, err)
	}
	must(t, ns.Close())
}
