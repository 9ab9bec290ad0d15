package learn

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An opened is a file of this process, with what is known of it.
type opened struct {
	fd         int
	ino, magic uint64
	references uint64
	file       uint64 // its address
}

// highDescriptor is one that is seldom in use: an array of files begins with 64.
const highDescriptor = 600

// files finds how a task's files are reached, and what a file shows.
func (l *lab) files(tasks []specimen) error {
	var all []opened
	add := func(fd int, references uint64) error {
		var status unix.Stat_t
		var system unix.Statfs_t
		if err := errors.Join(unix.Fstat(fd, &status), unix.Fstatfs(fd, &system)); err != nil {
			return err
		}
		all = append(all, opened{fd: fd, ino: status.Ino, magic: uint64(system.Type), references: references})
		return nil
	}
	var opens []int
	defer func() {
		for _, fd := range opens {
			_ = unix.Close(fd)
		}
	}()
	for n, path := range []string{"/proc/self/stat", "/dev/null", "/sys/class/net", "/sys/kernel", "/proc", ""} {
		var fd int
		var err error
		if path == "" {
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		} else {
			fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			return err
		}
		opens = append(opens, fd)
		for range n {
			copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, highDescriptor+n) // the table has to grow
			if errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("descriptor %d: over this process's limit; ulimit -n 1024", highDescriptor+n)
			}
			if err != nil {
				return err
			}
			opens = append(opens, copied)
		}
		if err := add(fd, uint64(n+1)); err != nil {
			return err
		}
	}
	size, err := tableSize()
	if err != nil {
		return err
	}
	l.memory.fresh()
	closed := opens[0] + 500
	type path struct{ files, table, array int }
	var paths []path
	for _, at := range shared(tasks) {
		files := specimen{image: l.memory.at(number(tasks[0].image, at, 8), 256)}
		for _, in := range places([]specimen{files}, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
			table := specimen{image: l.memory.at(number(files.image, in, 8), 64)}
			for _, fds := range places([]specimen{table}, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
				array := number(table.image, fds, 8)
				if l.memory.word(array+8*uint64(closed)) == 0 && !slices.ContainsFunc(all, func(o opened) bool {
					return !isPointer(l.memory.word(array + 8*uint64(o.fd)))
				}) && l.holds(array, all) {
					paths = append(paths, path{at, in, fds})
				}
			}
		}
	}
	if len(paths) != 1 {
		return fmt.Errorf("task_struct.files: %w: %v", ErrUnsure, paths)
	}
	p := paths[0]
	l.layout["task_struct.files"], l.layout["files_struct.fdt"], l.layout["fdtable.fd"] = Member{p.files, 8}, Member{p.table, 8}, Member{p.array, 8}
	table := number(l.memory.at(number(tasks[0].image, p.files, 8), 256), p.table, 8)
	err = l.layout.settle("fdtable.max_fds", 4, places([]specimen{{table, l.memory.at(table, 64)}}, 4, equal([]uint64{size})))
	array := number(l.memory.at(table, 64), p.array, 8)
	l.descriptors = array
	return errors.Join(err, l.learnFile(array, all), l.cgroups(tasks, array, all))
}

// tableSize returns how many descriptors this process's table has room for.
func tableSize() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if size, is := strings.CutPrefix(line, "FDSize:"); is {
			return strconv.ParseUint(strings.TrimSpace(size), 10, 64)
		}
	}
	return 0, errors.New("/proc/self/status: no FDSize")
}

// holds reports whether an array's entries are distinct files with the inodes that are known.
func (l *lab) holds(array uint64, all []opened) bool {
	for i := range all {
		file := l.memory.word(array + 8*uint64(all[i].fd))
		all[i].file = file
		image := specimen{file, l.memory.at(file, 256)}
		if len(places([]specimen{image}, 8, func(_ int, value uint64) bool {
			return isPointer(value) && len(places([]specimen{{value, l.memory.at(value, 256)}}, 8, equal([]uint64{all[i].ino}))) > 0
		})) == 0 {
			return false
		}
	}
	return true
}

func (l *lab) learnFile(array uint64, all []opened) error {
	var files []specimen
	for i := range all {
		all[i].file = l.memory.word(array + 8*uint64(all[i].fd))
		files = append(files, specimen{all[i].file, l.memory.at(all[i].file, 320)})
	}
	var inodes, numbers, blocks, magics []int
	for _, at := range places(files, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
		var images []specimen
		for n := range files {
			inode := number(files[n].image, at, 8)
			images = append(images, specimen{inode, l.memory.at(inode, 512)})
		}
		found := within(places(images, 8, func(n int, value uint64) bool { return value == all[n].ino }), 0, 128)
		if len(found) == 0 {
			continue
		}
		inodes, numbers = append(inodes, at), append(numbers, found...)
		for _, in := range places(images, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
			var supers []specimen
			for n := range images {
				block := number(images[n].image, in, 8)
				supers = append(supers, specimen{block, l.memory.at(block, 256)})
			}
			if found := places(supers, 8, func(n int, value uint64) bool { return value == all[n].magic }); len(found) > 0 {
				blocks, magics = append(blocks, in), append(magics, found...)
			}
		}
	}
	counted := places(files, 8, func(n int, value uint64) bool { return value == all[n].references })
	referred := places(files, 8, func(n int, value uint64) bool { return value == all[n].references-1 })
	err := errors.Join(
		l.layout.settle("file.f_inode", 8, inodes), l.layout.settle("inode.i_ino", 8, numbers),
		l.layout.settle("inode.i_sb", 8, blocks), l.layout.settle("super_block.s_magic", 8, magics),
	)
	switch {
	case len(counted) == 1 && len(referred) == 0:
		l.layout["file.f_count"] = Member{counted[0], 8}
	case len(counted) == 0 && len(referred) == 1:
		l.layout["file.f_ref"] = Member{referred[0], 8}
	default:
		err = errors.Join(err, fmt.Errorf("file.f_count: %w: at %v or %v", ErrUnsure, counted, referred))
	}
	return err
}
