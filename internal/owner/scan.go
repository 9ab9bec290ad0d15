package owner

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"xentrace/internal/event"
	"xentrace/internal/procfs"
)

// scan finds the holders of sockets by reading /proc/PID/fd, for kernels without the BPF
// iterator over files. Other users' processes need CAP_SYS_PTRACE. It omits processes that
// do not let their files be read.
func scan(processes *procfs.Processes, inodes []uint64) ([]event.Holder, error) {
	inodeOf := make(map[string]uint64, len(inodes))
	for _, inode := range inodes {
		inodeOf["socket:["+strconv.FormatUint(inode, 10)+"]"] = inode
	}
	pids, err := processes.List()
	if err != nil {
		return nil, err
	}
	var holders []event.Holder
	for _, pid := range pids {
		held := held(processes, pid, inodeOf)
		if len(held) == 0 {
			continue
		}
		task, err := readTask(processes, pid)
		if err != nil {
			continue
		}
		for _, inode := range held {
			holders = append(holders, event.Holder{Inode: inode, Task: task})
		}
	}
	return holders, nil
}

// filesAtOnce bounds the memory that a process with many files costs.
const filesAtOnce = 1024

// held returns which of the sockets a process holds, each once: none if it exits
// meanwhile or may not be read. Listing fd never blocks, following its links may.
func held(processes *procfs.Processes, pid int, inodeOf map[string]uint64) []uint64 {
	files, err := os.Open(processes.Path(pid, "fd"))
	if err != nil {
		return nil
	}
	defer func() { _ = files.Close() }() // only read from
	found := make(map[uint64]bool)
	for {
		names, err := files.Readdirnames(filesAtOnce)
		for _, name := range names {
			target, err := processes.Readlink(pid, filepath.Join("fd", name))
			if errors.Is(err, procfs.ErrStuck) {
				return nil
			}
			if inode, is := inodeOf[target]; is {
				found[inode] = true
			}
		}
		if err != nil {
			return slices.Collect(maps.Keys(found))
		}
	}
}

func readTask(processes *procfs.Processes, pid int) (event.Task, error) {
	comm, err := os.ReadFile(processes.Path(pid, "comm")) // never blocks
	if err != nil {
		return event.Task{}, err
	}
	started, err := processes.StartTime(pid)
	return event.Task{PID: pid, Comm: string(bytes.TrimSuffix(comm, []byte("\n"))), Started: started}, err
}
