package trace

import (
	"context"

	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
)

// DropPrivileges gives up what the tracer does not need any more once the
// driver's code is read, for the whole process and for good. It keeps CAP_BPF
// and CAP_PERFMON, to read the maps and the programs' statistics, and, to look
// at interfaces of other network namespaces than the caller's, CAP_SYS_ADMIN and
// CAP_SYS_PTRACE. To name the stacks of drops outside the driver it keeps CAP_SYSLOG.
func (t *Tracer) DropPrivileges(ctx context.Context) error {
	if err := t.linearizes.wait(ctx); err != nil {
		return err
	}
	keep := []kernel.Capability{unix.CAP_BPF, unix.CAP_PERFMON}
	if !t.selector.named() {
		keep = append(keep, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE)
	}
	if t.elsewhere != nil {
		keep = append(keep, unix.CAP_SYSLOG)
	}
	return kernel.KeepOnly(keep...)
}
