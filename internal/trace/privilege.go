package trace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/sandbox"
)

// CheckKernel refuses a machine that no backend can run on, and returns the kernel's types, of
// a file if one is named: see [kernel.FindTypes]. It lifts the limit on locked memory, which BPF
// maps count against before 5.11. The error wraps [ErrCannotRun] and names what is missing.
func CheckKernel(btf string) (*kernel.Types, error) {
	release, err := kernel.ReadRelease()
	if err != nil {
		return nil, err
	}
	if err := allowsTracing(release); err != nil {
		return nil, err
	}
	types, err := kernel.FindTypes(btf)
	switch {
	case err != nil && btf != "":
		return nil, fmt.Errorf("%w: %w; it has to be a vmlinux of kernel %s, or BTF made from it", ErrCannotRun, err, release)
	case err != nil:
		return nil, fmt.Errorf("%w: kernel %s: %w; name its vmlinux with --btf FILE, run xentrace learn once, or boot a kernel built with CONFIG_DEBUG_INFO_BTF; check, fix, and replay, report and compare of recordings work without", ErrCannotRun, release, err)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("%w: limit of locked memory: %w; run without one (ulimit -l unlimited; container: --ulimit memlock=-1:-1) or with CAP_SYS_RESOURCE", ErrCannotRun, err)
	}
	if err := tryRingBuffer(); err != nil {
		return nil, fmt.Errorf("%w: kernel %s has no BPF ring buffer, which came with 5.8: %w", ErrCannotRun, release, err)
	}
	return types, nil
}

// allowsTracing reports what forbids it whatever the backend.
func allowsTracing(release string) error {
	if err := mounted(os.DirFS("/")); err != nil {
		return fmt.Errorf("%w: %w", ErrCannotRun, err)
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
	last, err := kernel.LastCapability()
	if err != nil {
		return err
	}
	var missing []string
	for _, need := range capabilities.Missing(last) {
		if need.Required {
			missing = append(missing, fmt.Sprintf("%s (%s)", need.Name, need.Reason))
		}
	}
	if len(missing) > 0 && kernel.InUserNamespace() {
		return fmt.Errorf("%w: this is a user namespace, as of a rootless container, whose root may not load BPF programs; run it as root on the machine itself", ErrCannotRun)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: missing privilege %s; %s", ErrCannotRun, strings.Join(missing, ", "), kernel.HowToGain(os.Geteuid()))
	}
	lockdown, err := kernel.ReadLockdown()
	if err != nil {
		return err
	}
	if lockdown.ForbidsTracing() {
		return fmt.Errorf("%w: %s", ErrCannotRun, lockdown.Forbids())
	}
	if err := kernel.TryBPF(); err != nil {
		return fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	return nil
}

// mounted reports a machine, or a container, that does not show what everything else is read
// from.
func mounted(root fs.FS) error {
	if _, err := fs.Stat(root, "proc/self"); err != nil {
		return netdev.ErrNoProc
	}
	if _, err := fs.Stat(root, "sys/kernel"); err != nil {
		return errors.New("there is no /sys: mount it (mount -t sysfs sysfs /sys)")
	}
	return nil
}

// tryRingBuffer makes one: distributions carry it back, as RHEL 8 to its 4.18. The error wraps
// ebpf.ErrNotSupported or EINVAL where the kernel does not know this type of map; what else
// keeps it from being made is for the caller that needs it to report.
func tryRingBuffer() error {
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	if err != nil {
		return nil
	}
	return ring.Close()
}

// Explain adds the likely reason to an error of loading or attaching.
func Explain(err error) error {
	var rejected *ebpf.VerifierError
	if errors.As(err, &rejected) {
		return fmt.Errorf("rejected by this kernel's verifier, which is a defect of xentrace: %w", err)
	}
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	if lockdown, lockdownErr := kernel.ReadLockdown(); lockdownErr == nil && lockdown.ForbidsTracing() {
		return fmt.Errorf("%s: %w", lockdown.Forbids(), err)
	}
	if has, capErr := kernel.ReadCapabilities(); capErr == nil && !has.Has(unix.CAP_SYS_ADMIN) {
		return fmt.Errorf("refused without CAP_SYS_ADMIN, which fentry on a module takes, and a kprobe while the sysctl kernel.perf_event_paranoid is above 2: %w", err)
	}
	return fmt.Errorf("refused by this kernel (is it built without it?): %w", err)
}

// DropPrivileges waits for the driver's code to be read, then becomes the user and drops,
// for the whole process and for good, all privileges but those in more and those that the
// tracer's remaining work needs:
//   - CAP_BPF and CAP_PERFMON to read maps and statistics, and to attach to a driver that
//     is loaded again
//   - CAP_SYSLOG to find that driver's code, and to name stacks
//   - CAP_SYS_ADMIN for that driver's kprobes, see [kernel.KprobesTakeSysAdmin]
//   - CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH to name functions of other users' programs
//   - CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH for interfaces of other
//     network namespaces
//   - CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH where the owners of sockets have to be found
//     in /proc
func (t *Tracer) DropPrivileges(ctx context.Context, user kernel.User, more ...kernel.Capability) error {
	if err := t.driver.generations.current().wait(ctx); err != nil {
		return err
	}
	sysAdmin, err := kernel.KprobesTakeSysAdmin()
	if err != nil {
		return err
	}
	keep := slices.Concat(more, t.driver.privileges(t.choice.Backend, sysAdmin), t.holders.privileges())
	if t.elsewhere != nil || t.calls != nil {
		keep = append(keep, unix.CAP_SYSLOG)
	}
	if t.calls != nil {
		keep = append(keep, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH)
	}
	return keepPrivileges(user, t.options.Interfaces, sandbox.Policy{
		Namespaces: slices.Contains(more, unix.CAP_SYS_ADMIN),
		Send:       t.options.Probe, Serve: t.options.Serves, Directory: t.options.Writes, Read: t.options.Reads,
	}, keep)
}

// KeepPrivileges becomes the user and drops all privileges but CAP_BPF and CAP_PERFMON
// and, unless interfaces are named, CAP_SYS_ADMIN to enter other network
// namespaces and CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH to find them. A process that has
// CAP_SYS_ADMIN in place of CAP_BPF or CAP_PERFMON keeps it.
//
// The system calls and files that are not needed are forbidden, see [sandbox.Enter].
func KeepPrivileges(user kernel.User, interfaces []string) error {
	return keepPrivileges(user, interfaces, sandbox.Policy{}, nil)
}

func keepPrivileges(user kernel.User, interfaces []string, policy sandbox.Policy, more []kernel.Capability) error {
	keep := append([]kernel.Capability{unix.CAP_BPF, unix.CAP_PERFMON}, more...)
	if len(interfaces) == 0 {
		keep = append(keep, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH)
	}
	has, err := kernel.ReadCapabilities()
	if err != nil {
		return err
	}
	if !has.Has(unix.CAP_BPF) || !has.Has(unix.CAP_PERFMON) {
		keep = append(keep, unix.CAP_SYS_ADMIN)
	}
	if err := kernel.Confine(user, keep...); err != nil {
		return err
	}
	policy.Namespaces = policy.Namespaces || len(interfaces) == 0
	policy.Processes = slices.Contains(keep, unix.CAP_SYS_PTRACE)
	policy.Send = policy.Send || slices.Contains(keep, unix.CAP_NET_ADMIN)
	return sandbox.Enter(policy)
}
