package owner

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"xentrace/internal/event"
)

// scan finds the holders of sockets by reading /proc: where the kernel's own iterator
// is not to be had. It takes CAP_SYS_PTRACE to see the files of other users' processes.
func scan(proc string, inodes []uint64) ([]event.Holder, error) {
	wanted := make(map[string]uint64, len(inodes))
	for _, inode := range inodes {
		wanted["socket:["+strconv.FormatUint(inode, 10)+"]"] = inode
	}
	processes, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var holders []event.Holder
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		for _, inode := range held(filepath.Join(proc, process.Name(), "fd"), wanted) {
			if task, err := readTask(proc, pid); err == nil {
				holders = append(holders, event.Holder{Inode: inode, Task: task})
			}
		}
	}
	return holders, nil
}

// held returns which of the wanted sockets a process holds. One that goes meanwhile, or
// may not be looked into, holds none.
func held(directory string, wanted map[string]uint64) []uint64 {
	files, err := os.Open(directory)
	if err != nil {
		return nil
	}
	defer func() { _ = files.Close() }() // only read from
	names, _ := files.Readdirnames(-1)
	var inodes []uint64
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(directory, name))
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		if inode, is := wanted[target]; is {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

func readTask(proc string, pid int) (event.Task, error) {
	directory := filepath.Join(proc, strconv.Itoa(pid))
	comm, err := os.ReadFile(filepath.Join(directory, "comm"))
	if err != nil {
		return event.Task{}, err
	}
	started, err := startOf(filepath.Join(directory, "stat"))
	return event.Task{PID: pid, Comm: string(bytes.TrimSuffix(comm, []byte("\n"))), Started: started}, err
}
