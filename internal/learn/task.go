package learn

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// taskBytes is more than task_struct has up to its last member that is looked for.
const taskBytes = 3 * pageSize

// taskSize returns the size of a task_struct with what the kernel keeps behind it, at most
// taskBytes: another thread may lie next to it in memory, whose members hold the same.
func taskSize() int {
	size, err := os.ReadFile("/sys/kernel/slab/task_struct/object_size")
	if n, bad := strconv.Atoi(strings.TrimSpace(string(size))); err == nil && bad == nil {
		return min(n, taskBytes)
	}
	caches, _ := os.ReadFile("/proc/slabinfo")
	for line := range strings.Lines(string(caches)) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[0] == "task_struct" {
			if n, err := strconv.Atoi(fields[3]); err == nil {
				return min(n, taskBytes)
			}
		}
	}
	return taskBytes
}

// A task is a thread of this process.
type task struct {
	specimen
	pid, tgid, flags, ticks uint64
	name                    string
}

// tasks finds the members of task_struct and of the files that a process holds.
func (l *lab) tasks() error {
	var all []task
	var err error
	for range 4 {
		// Each on a thread of its own, until all are seen.
		seen, release := make(chan task), make(chan struct{})
		defer close(release)
		go func() {
			runtime.LockOSThread()
			t, failure := l.thisTask()
			if failure != nil {
				err = failure
			}
			seen <- t
			<-release
		}()
		all = append(all, <-seen)
		if err != nil {
			return err
		}
	}
	var images []specimen
	for _, t := range all {
		images = append(images, t.specimen)
	}
	of := func(member func(*task) uint64) func(int, uint64) bool {
		return func(n int, value uint64) bool { return value == member(&all[n]) }
	}
	settle := func(name string, size int, places []int) error {
		return l.layout.settle("task_struct."+name, size, places)
	}
	var names []int
	for at := 0; at+16 <= len(images[0].image); at++ {
		if !slices.ContainsFunc(indices(all), func(n int) bool {
			return !bytes.HasPrefix(part(images[n].image, at, 16), append([]byte(all[n].name), 0))
		}) {
			names = append(names, at)
		}
	}
	started := places(images, 8, func(n int, value uint64) bool { return value/1e7 == all[n].ticks })
	if len(started) == 2 && started[1]-started[0] == 8 {
		started = started[1:] // start_time, then start_boottime, which differ once the machine has slept
	}
	tgids := places(images, 4, of(func(t *task) uint64 { return t.tgid }))
	pids := places(images, 4, of(func(t *task) uint64 { return t.pid }))
	err = errors.Join(
		settle("comm", 16, names), settle("start_boottime", 8, started), settle("tgid", 4, tgids),
		settle("flags", 4, places(images, 4, of(func(t *task) uint64 { return t.flags }))),
	)
	if len(tgids) == 1 {
		leaders := places(images, 8, func(n int, value uint64) bool {
			if !isPointer(value) {
				return false
			}
			leader := l.memory.at(value, len(images[0].image))
			// Its number is that of the process. Since 7.2 a thread has its own in two places.
			return number(leader, tgids[0], 4) == all[n].tgid && slices.ContainsFunc(pids, func(at int) bool {
				return number(leader, at, 4) == all[n].tgid
			})
		})
		leaders = slices.DeleteFunc(leaders, func(at int) bool {
			leader := number(images[0].image, at, 8)
			return l.memory.word(leader+uint64(at)) != leader
		})
		err = errors.Join(err, settle("group_leader", 8, leaders))
	}
	return errors.Join(err, l.namespaces(), l.files(images))
}

// namespaces finds the network namespace of a task: the calling thread has one of its own.
func (l *lab) namespaces() error {
	at, known := l.layout["net_device.nd_net"]
	if !known {
		return nil
	}
	t, err := l.thisTask()
	if err != nil {
		return err
	}
	net := l.memory.word(l.taps[0].address + uint64(at.Offset))
	var proxies, nets []int
	for _, at := range places([]specimen{t.specimen}, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
		proxy := number(t.image, at, 8)
		if found := places([]specimen{{proxy, l.memory.at(proxy, 80)}}, 8, equal([]uint64{net})); len(found) > 0 {
			proxies, nets = append(proxies, at), append(nets, found...)
		}
	}
	return errors.Join(l.layout.settle("task_struct.nsproxy", 8, proxies), l.layout.settle("nsproxy.net_ns", 8, nets))
}

var oneTask sync.Mutex

func (l *lab) thisTask() (task, error) {
	oneTask.Lock()
	defer oneTask.Unlock()
	t := task{name: fmt.Sprintf("lt%013d", rand.Uint64N(1e13))}
	name := append([]byte(t.name), 0)
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0); err != nil {
		return t, err
	}
	address, numbers, err := l.hook.task() // sets PF_SUPERPRIV, so before the flags are read
	if err != nil {
		return t, err
	}
	stat, err := os.ReadFile("/proc/thread-self/stat")
	if err != nil {
		return t, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	t.flags, _ = strconv.ParseUint(fields[9-3], 10, 64)
	t.ticks, _ = strconv.ParseUint(fields[22-3], 10, 64)
	t.pid, t.tgid = numbers&(1<<32-1), numbers>>32
	l.memory.fresh()
	t.specimen = specimen{address, bytes.Clone(l.memory.at(address, taskSize()))}
	return t, nil
}

// shared returns the offsets of the pointers that are the same in all threads of a process. Behind
// a task_struct another may lie.
func shared(tasks []specimen) []int {
	return slices.DeleteFunc(places(tasks, 8, func(_ int, value uint64) bool { return isPointer(value) }), func(at int) bool {
		return slices.ContainsFunc(tasks, func(s specimen) bool { return number(s.image, at, 8) != number(tasks[0].image, at, 8) })
	})
}
