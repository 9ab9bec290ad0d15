package netdev

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"xentrace/test/unshared"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mountNamespaces makes network namespaces that are mounted below a directory, until the end
// of the test.
func mountNamespaces(t *testing.T, count int) []Found {
	t.Helper()
	directory := t.TempDir()
	found := make([]Found, count)
	t.Cleanup(func() {
		for _, f := range found {
			if f.Path != "" {
				must(t, unix.Unmount(f.Path, unix.MNT_DETACH))
			}
		}
	})
	var err error
	unshared.Do(t, func() {
		for n := range found {
			path := filepath.Join(directory, fmt.Sprintf("%d", n))
			if err = mountNamespace(path); err != nil {
				return
			}
			found[n].Path = path
		}
	})
	must(t, err)
	for n := range found {
		var stat unix.Stat_t
		must(t, unix.Stat(found[n].Path, &stat))
		found[n].Inum = uint32(stat.Ino)
	}
	return found
}

func mountNamespace(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
}

// With 1,024 descriptors (XENTRACE_HOSTILE=10m: for so long) and 1,000 namespaces every
// interface that appears in one of them is seen, and memory stays as it is.
func TestThousandNamespaces(t *testing.T) {
	count, appearances, interval, duration := 20, 2, 50*time.Millisecond, time.Duration(0)
	if text := os.Getenv("XENTRACE_HOSTILE"); text != "" {
		var err error
		duration, err = time.ParseDuration(text)
		must(t, err)
		count, interval = 1000, time.Second
	}
	found := mountNamespaces(t, count)
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(min(1024, 3*count)), Max: before.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
	ctx, cancel := context.WithCancel(t.Context())
	events, err := WatchAll(ctx, interval)
	must(t, err)
	defer func() {
		cancel()
		for range events {
		}
	}()
	missing := make(map[uint32]bool)
	for _, f := range found {
		missing[f.Inum] = true
	}
	until(t, events, func(e Event) bool {
		if e.Kind == Appeared && e.Interface.Name == "lo" {
			delete(missing, e.Namespace)
		}
		return e.Kind == Synced && e.Namespace == 0
	})
	if len(missing) > 0 {
		t.Fatalf("%d of %d namespaces are not watched", len(missing), count)
	}
	heap, held, appeared, slowest := heapInUse(), descriptors(t), 0, time.Duration(0)
	for began := time.Now(); appeared < appearances || time.Since(began) < duration; appeared++ {
		f := found[appeared*37%count]
		made := time.Now()
		addInterface(t, f)
		await(t, events, Appeared, f.Inum)
		slowest = max(slowest, time.Since(made))
		ns := open(t, f)
		must(t, ns.netlink.LinkDel(link(byName(t, ns, "comes"))))
		must(t, ns.Close())
		await(t, events, Disappeared, f.Inum)
	}
	grown, more := int64(heapInUse())-int64(heap), descriptors(t)-held
	t.Logf("%d namespaces, %d appearances in one of them, seen after %v at most; %d KiB of heap, %d KiB and %d descriptors more at the end", count, appeared, slowest.Round(time.Millisecond), heap>>10, grown>>10, more)
	if grown > 4<<20 || more > 10 {
		t.Error("limits are 4 MiB and 10 descriptors")
	}
}

// await waits for an event of the interface, which takes long where there is no time to read
// all namespaces.
func await(t *testing.T, events <-chan Event, kind EventKind, inum uint32) {
	t.Helper()
	const patience = 10 * time.Minute
	for timeout := time.After(patience); ; {
		select {
		case e := <-events:
			if e.Kind == kind && e.Namespace == inum && e.Interface.Name == "comes" {
				return
			}
		case <-timeout:
			t.Fatalf("not %v after %v", kind, patience)
		}
	}
}

func addInterface(t *testing.T, f Found) {
	t.Helper()
	ns, err := f.Open()
	must(t, err)
	must(t, ns.netlink.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "comes"}}))
	must(t, ns.Close())
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
