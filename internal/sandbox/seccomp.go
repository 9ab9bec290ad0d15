// Package sandbox restricts the system calls and files of this process once it is attached:
// a seccomp filter, and Landlock where the kernel has it. It is for an attacker who has
// already taken over the process, and does not replace dropped capabilities.
package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Policy is what the remaining work needs.
type Policy struct {
	Namespaces bool // enter other network namespaces
	Processes  bool // read files of other users' processes
	Send       bool // send packets
	Serve      bool // accept connections on sockets that listen already
	// Read are directories that are read besides those of every process.
	Read []string
	// Directory is where files are made, written and removed; empty for nowhere. It may be
	// removed meanwhile and made again.
	Directory string
}

// Enter restricts the whole process, for good. It needs no_new_privs. What the kernel lacks
// is left out. The error wraps errors.ErrUnsupported in a binary built with cgo.
func Enter(p Policy) error {
	if err := restrictFiles(p); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	if err := filterCalls(p); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}

// common are the system calls of the Go runtime, of reading files and maps, and of netlink.
var common = []uint32{
	unix.SYS_BIND, unix.SYS_BPF, unix.SYS_CAPGET, unix.SYS_CAPSET, unix.SYS_CLOCK_GETRES, unix.SYS_CLOCK_GETTIME,
	unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOSE, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL,
	unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_FACCESSAT,
	unix.SYS_FACCESSAT2, unix.SYS_FCNTL, unix.SYS_FDATASYNC, unix.SYS_FSTAT, unix.SYS_FSTATFS, unix.SYS_FSYNC, unix.SYS_FTRUNCATE, unix.SYS_FUTEX, unix.SYS_GETCPU,
	unix.SYS_GETCWD, unix.SYS_GETDENTS64, unix.SYS_GETEGID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETPEERNAME,
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETRANDOM, unix.SYS_GETRUSAGE, unix.SYS_GETSOCKNAME, unix.SYS_GETSOCKOPT,
	unix.SYS_GETTID, unix.SYS_GETTIMEOFDAY, unix.SYS_GETUID, unix.SYS_IOCTL, unix.SYS_LSEEK, unix.SYS_MADVISE,
	unix.SYS_MEMBARRIER, unix.SYS_MINCORE, unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_MREMAP, unix.SYS_MUNMAP,
	unix.SYS_NANOSLEEP, unix.SYS_PERF_EVENT_OPEN, unix.SYS_PIPE2, unix.SYS_PPOLL, unix.SYS_PRCTL, unix.SYS_PREAD64,
	unix.SYS_PRLIMIT64, unix.SYS_PWRITE64, unix.SYS_READ, unix.SYS_READLINKAT, unix.SYS_READV, unix.SYS_RECVFROM, unix.SYS_RECVMSG,
	unix.SYS_RESTART_SYSCALL, unix.SYS_RSEQ, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN,
	unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_YIELD, unix.SYS_SECCOMP, unix.SYS_SENDMSG,
	unix.SYS_SENDTO, unix.SYS_SET_ROBUST_LIST, unix.SYS_SETSOCKOPT, unix.SYS_SHUTDOWN, unix.SYS_SIGALTSTACK, unix.SYS_STATFS,
	unix.SYS_STATX, unix.SYS_SYSINFO, unix.SYS_TGKILL, unix.SYS_KILL, unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_DELETE, unix.SYS_TIMER_SETTIME, unix.SYS_UNAME, unix.SYS_WRITE, unix.SYS_WRITEV,
	unix.SYS_LANDLOCK_CREATE_RULESET, unix.SYS_LANDLOCK_ADD_RULE, unix.SYS_LANDLOCK_RESTRICT_SELF,
}

// For sockets of the own namespace no call is needed but those of common.
var (
	namespaces = []uint32{unix.SYS_SETNS, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT}
	sending    = []uint32{
		unix.SYS_CONNECT, unix.SYS_LISTEN, unix.SYS_ACCEPT4, unix.SYS_SENDMMSG, unix.SYS_SPLICE, unix.SYS_SENDFILE,
		unix.SYS_VMSPLICE, unix.SYS_SOCKETPAIR, unix.SYS_MEMFD_CREATE,
	}
)

// writing are the calls of a recording, besides opening files for writing.
var writing = []uint32{
	unix.SYS_FALLOCATE, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FLOCK, unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_UTIMENSAT,
}

const (
	allow = unix.SECCOMP_RET_ALLOW
	// forbidden makes a call fail with EPERM, absent with ENOSYS, upon which callers use
	// older calls, whose arguments a filter can see.
	forbidden = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	absent    = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// Offsets in struct seccomp_data. Both architectures are little-endian: the lower half of
// an argument comes first.
const (
	atNumber       = 0
	atArchitecture = 4
	atArguments    = 16
)

func argument(n uint32) uint32 { return atArguments + 8*n }

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func result(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// skipUnless skips the next n instructions unless the loaded value compares so with k.
func skipUnless(comparison uint16, k uint32, n uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | comparison, K: k, Jf: n}
}

// call has the result of one system call decided by more instructions, which end.
func call(number uint32, decide ...unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{skipUnless(unix.BPF_JEQ, number, uint8(len(decide)))}, decide...)
}

// program returns the filter. Any other call fails with EPERM: nothing is executed, no file
// is opened for writing, and there are no packet sockets.
func program(p Policy) []unix.SockFilter {
	filter := []unix.SockFilter{
		load(atArchitecture),
		{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, K: architecture, Jt: 1},
		result(forbidden),
		load(atNumber),
	}
	calls := append(append([]uint32{}, common...), ofArchitecture...)
	if p.Namespaces {
		calls = append(calls, namespaces...)
	}
	if p.Send {
		calls = append(calls, sending...)
	}
	if p.Serve {
		calls = append(calls, unix.SYS_ACCEPT4)
	}
	if p.Directory != "" {
		calls = append(calls, writing...)
	}
	for _, number := range calls {
		filter = append(filter, call(number, result(allow))...)
	}
	filter = append(filter, call(unix.SYS_OPENAT2, result(absent))...)
	filter = append(filter, call(unix.SYS_CLONE3, result(absent))...)
	filter = append(filter, call(unix.SYS_CLONE, load(argument(0)),
		skipUnless(unix.BPF_JSET, unix.CLONE_THREAD, 1), result(allow), result(forbidden))...)
	for number, flags := range opening {
		if p.Directory != "" {
			filter = append(filter, call(number, result(allow))...)
			continue
		}
		filter = append(filter, call(number, load(argument(flags)),
			skipUnless(unix.BPF_JSET, unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, 1), result(forbidden), result(allow))...)
	}
	filter = append(filter, call(unix.SYS_SOCKET, load(argument(0)),
		skipUnless(unix.BPF_JEQ, unix.AF_NETLINK, 1), result(allow),
		skipUnless(unix.BPF_JEQ, unix.AF_INET, 1), result(allow),
		skipUnless(unix.BPF_JEQ, unix.AF_INET6, 1), result(allow),
		skipUnless(unix.BPF_JEQ, unix.AF_UNIX, 1), result(allow),
		result(forbidden))...)
	return append(filter, result(forbidden))
}

// filterCalls applies the filter to all threads at once.
func filterCalls(p Policy) error {
	filter := program(p)
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Without SPEC_ALLOW kernels before 5.16 slow the process down, for sandboxes that run
	// others' code.
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	thread, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(filter)
	switch {
	case errno == unix.ENOSYS, errno == unix.EINVAL: // a kernel without it
		return nil
	case errno != 0:
		return errno
	case thread != 0:
		return errors.New("a thread has a filter of its own")
	}
	return nil
}
