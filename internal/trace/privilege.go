package trace

import (
	"context"

	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
)

// DropPrivileges gives up what the tracer does not need any more once the
// driver's code is read, for the whole process and for good. It keeps CAP_BPF
// and CAP_PERFMON, to read the maps and the programs' statistics and to hook into
// a driver that is loaded again; CAP_SYSLOG, to find the code of that, unless the
// driver cannot go, and to name stacks; to name the functions of other users'
// programs in them CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; and, to look at
// interfaces of other network namespaces than the caller's, CAP_SYS_ADMIN and
// CAP_SYS_PTRACE. That one it keeps also where the owners of sockets are to be
// searched for in /proc.
func (t *Tracer) DropPrivileges(ctx context.Context) error {
	if err := t.driver.generations.current().wait(ctx); err != nil {
		return err
	}
	keep := append(t.driver.privileges(), t.holders.privileges()...)
	if t.elsewhere != nil || t.calls != nil {
		keep = append(keep, unix.CAP_SYSLOG)
	}
	if t.calls != nil {
		keep = append(keep, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH)
	}
	return KeepPrivileges(t.options.Interfaces, keep...)
}

// KeepPrivileges gives up, for the whole process and for good, all privileges but more and
// those that every measuring takes: CAP_BPF and CAP_PERFMON to read maps and statistics,
// and CAP_SYS_ADMIN and CAP_SYS_PTRACE for the interfaces of other network namespaces,
// unless interfaces are named.
func KeepPrivileges(interfaces []string, more ...kernel.Capability) error {
	keep := append([]kernel.Capability{unix.CAP_BPF, unix.CAP_PERFMON}, more...)
	if len(interfaces) == 0 {
		keep = append(keep, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE)
	}
	return kernel.KeepOnly(keep...)
}
