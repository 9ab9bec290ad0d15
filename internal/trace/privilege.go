package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
)

// CheckKernel refuses a machine that no backend can run on. The error wraps
// [ErrCannotRun] and names what is missing.
func CheckKernel() error {
	release, err := kernel.ReadRelease()
	if err != nil {
		return err
	}
	if !release.HasRingBuffer() {
		return fmt.Errorf("%w: kernel %s has no BPF ring buffer, which came with 5.8", ErrCannotRun, release)
	}
	if realtime, err := kernel.IsRealtime(); err != nil {
		return err
	} else if realtime {
		return fmt.Errorf("%w: kernel %s is built with PREEMPT_RT, where transmits of one CPU preempt each other and a packet cannot be matched with its fate; boot a kernel without PREEMPT_RT", ErrCannotRun, release)
	}
	capabilities, err := kernel.ReadCapabilities()
	if err != nil {
		return err
	}
	var missing []string
	for _, need := range capabilities.Missing(release) {
		if need.Required {
			missing = append(missing, fmt.Sprintf("%s (%s)", need.Name, need.Reason))
		}
	}
	if len(missing) > 0 && kernel.InUserNamespace() {
		return fmt.Errorf("%w: this is a user namespace, as of a rootless container, whose root may not load BPF programs: run it as root on the machine itself", ErrCannotRun)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: missing privilege %s: run it as root, with sudo", ErrCannotRun, strings.Join(missing, ", "))
	}
	lockdown, err := kernel.ReadLockdown()
	if err != nil {
		return err
	}
	if lockdown.ForbidsTracing() {
		return fmt.Errorf("%w: %s", ErrCannotRun, lockdown.Forbids())
	}
	if !kernel.HasKernelTypes() {
		return fmt.Errorf("%w: kernel %s has no BTF type information (/sys/kernel/btf/vmlinux): use a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions ship them", ErrCannotRun, release)
	}
	return nil
}

// Explain adds the likely reason to an error of loading or attaching.
func Explain(err error) error {
	var rejected *ebpf.VerifierError
	if errors.As(err, &rejected) {
		return fmt.Errorf("rejected by this kernel's verifier, which is a defect of xentrace: %w", err)
	}
	if errors.Is(err, os.ErrPermission) {
		if lockdown, lockdownErr := kernel.ReadLockdown(); lockdownErr == nil && lockdown.Forbids() != "" {
			return fmt.Errorf("%s: %w", lockdown.Forbids(), err)
		}
		return fmt.Errorf("refused by this kernel (is it built without it?): %w", err)
	}
	return err
}

// DropPrivileges waits for the driver's code to be read and then drops, for the whole
// process and for good, all privileges but those that its remaining work needs:
//   - CAP_BPF and CAP_PERFMON to read maps and statistics, and to attach to a driver that
//     is loaded again
//   - CAP_SYSLOG to find that driver's code, and to name stacks
//   - CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH to name functions of other users' programs
//   - CAP_SYS_ADMIN and CAP_SYS_PTRACE for interfaces of other network namespaces
//   - CAP_SYS_PTRACE where the owners of sockets have to be found in /proc
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

// KeepPrivileges drops all privileges but those in more, CAP_BPF and CAP_PERFMON, and,
// unless interfaces are named, CAP_SYS_ADMIN and CAP_SYS_PTRACE.
func KeepPrivileges(interfaces []string, more ...kernel.Capability) error {
	keep := append([]kernel.Capability{unix.CAP_BPF, unix.CAP_PERFMON}, more...)
	if len(interfaces) == 0 {
		keep = append(keep, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE)
	}
	return kernel.KeepOnly(keep...)
}
