package owner

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"xentrace/internal/event"
)

// scan finds the holders of sockets by reading /proc/PID/fd, for kernels without the BPF
// iterator over files. Other users' processes need CAP_SYS_PTRACE.
func scan(proc string, inodes []uint64) ([]event.Holder, error) {
	inodeOf := make(map[string]uint64, len(inodes))
	for _, inode := range inodes {
		inodeOf["socket:["+strconv.FormatUint(inode, 10)+"]"] = inode
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
		for _, inode := range held(filepath.Join(proc, process.Name(), "fd"), inodeOf) {
			if task, err := readTask(proc, pid); err == nil {
				holders = append(holders, event.Holder{Inode: inode, Task: task})
			}
		}
	}
	return holders, nil
}

// held returns which of the sockets a process holds: none if it exits meanwhile or may
// not be read.
func held(directory string, inodeOf map[string]uint64) []uint64 {
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
		if inode, is := inodeOf[target]; is {
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
	started, err := startTime(filepath.Join(directory, "stat"))
	return event.Task{PID: pid, Comm: string(bytes.TrimSuffix(comm, []byte("\n"))), Started: started}, err
}
