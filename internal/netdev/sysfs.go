package netdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysfs is a view of /sys whose class/net shows the interfaces of one namespace:
// that of the thread that mounted it.
type sysfs struct{ root *os.File }

func (s *sysfs) close() error { return s.root.Close() }

// mountSysfs makes a view of its own for the namespace the thread is in, attached
// nowhere and gone with its last descriptor. It needs CAP_SYS_ADMIN. It keeps no
// namespace alive: kernfs takes a passive reference.
func mountSysfs() (*sysfs, error) {
	context, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("sysfs: fsopen: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fmt.Errorf("sysfs: fsconfig: %w", err)
	}
	const harmless = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, harmless)
	if err != nil {
		return nil, fmt.Errorf("sysfs: fsmount: %w", err)
	}
	return &sysfs{os.NewFile(uintptr(mount), "sysfs")}, nil
}

// openSysfs mounts a view of the namespace, or, without the privilege, takes
// /sys, which shows the namespace that whoever mounted it was in.
func (ns *Namespace) openSysfs() (*sysfs, error) {
	ns.sysfsOnce.Do(func() {
		ns.sysfsErr = ns.Do(func() error {
			var err error
			ns.sysfs, err = mountSysfs()
			return err
		})
		if ns.sysfsErr == nil || !ns.isCurrent() {
			return
		}
		if root, err := os.Open("/sys"); err == nil {
			ns.sysfs, ns.sysfsErr = &sysfs{root}, nil
		}
	})
	return ns.sysfs, ns.sysfsErr
}

func (ns *Namespace) isCurrent() bool {
	target, err := os.Readlink("/proc/self/ns/net")
	inum, ok := parseInum(target)
	return err == nil && ok && inum == ns.inum
}

// realQueues returns real_num_tx_queues, which sysfs alone shows: it has one
// tx-N directory for each. allocated is IFLA_NUM_TX_QUEUES, num_tx_queues, the
// upper bound. The result is 0 where it cannot be known.
func (ns *Namespace) realQueues(name string, index, allocated int) int {
	if allocated == 1 {
		return 1
	}
	view, err := ns.openSysfs()
	if err != nil {
		return 0
	}
	queues, err := view.queues(name, index)
	if err != nil {
		return 0
	}
	return queues
}

// queues counts the transmit queues of the interface, after checking that the
// name is that of the interface meant.
func (s *sysfs) queues(name string, index int) (int, error) {
	dir, err := openDir(s.root, "class/net/"+name)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	if shown, err := readInt(dir, "ifindex"); err != nil || shown != index {
		return 0, errors.Join(&NotFoundError{Index: index}, err)
	}
	queues, err := openDir(dir, "queues")
	if err != nil {
		return 0, err
	}
	defer queues.Close()
	names, err := queues.Readdirnames(-1)
	if err != nil {
		return 0, fmt.Errorf("sysfs: queues: %w", err)
	}
	count := 0
	for _, queue := range names {
		if strings.HasPrefix(queue, "tx-") {
			count++
		}
	}
	return count, nil
}

func openDir(dir *os.File, path string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("sysfs: open: %w", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func readInt(dir *os.File, name string) (int, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("sysfs: open: %w", err)
	}
	defer unix.Close(fd)
	var text [32]byte
	n, err := unix.Read(fd, text[:])
	if err != nil {
		return 0, fmt.Errorf("sysfs: read: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text[:n])))
}

// EventChannels are what the kernel counted of a frontend's event channels since it was attached
// (Linux 5.12). Each is a counter of 32 bits that wraps.
type EventChannels struct {
	Events         uint32
	Spurious       uint32 // that found nothing to do
	DelayedJiffies uint32 // for which the end of an interrupt was delayed
	Threshold      int    // spurious events in a row that are not delayed
}

// ErrNoEventCounters: a kernel before 5.12, or another driver's device.
var ErrNoEventCounters = errors.New("this kernel does not count them (before 5.12)")

// ReadEventChannels reads those of a device such as vif-0. files is the machine's root.
func ReadEventChannels(files fs.FS, device string) (EventChannels, error) {
	var counts [4]uint64
	for n, name := range []string{"events", "spurious_events", "jiffies_eoi_delayed", "spurious_threshold"} {
		content, err := fs.ReadFile(files, "sys/devices/"+device+"/xenbus/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			return EventChannels{}, ErrNoEventCounters
		}
		if err != nil {
			return EventChannels{}, fmt.Errorf("event channels of %s: %w", device, err)
		}
		// The kernel prints them with a sign.
		count, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
		if err != nil {
			return EventChannels{}, fmt.Errorf("event channels of %s: %s: %w", device, name, err)
		}
		counts[n] = uint64(count)
	}
	return EventChannels{uint32(counts[0]), uint32(counts[1]), uint32(counts[2]), int(uint32(counts[3]))}, nil
}
