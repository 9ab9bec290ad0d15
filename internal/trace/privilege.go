package trace

import (
	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
)

// DropPrivileges gives up what a tracer started with these options does not
// need any more once it is attached, for the whole process and for good. It
// keeps CAP_BPF and CAP_PERFMON, to read the maps and the programs'
// statistics, and, to look at interfaces of other network namespaces than the
// caller's, CAP_SYS_ADMIN and CAP_SYS_PTRACE.
func DropPrivileges(o Options) error {
	keep := []kernel.Capability{unix.CAP_BPF, unix.CAP_PERFMON}
	if len(o.Interfaces) == 0 {
		keep = append(keep, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE)
	}
	return kernel.KeepOnly(keep...)
}
