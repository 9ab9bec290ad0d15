package kernel

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Capability is one privilege a process can have, by its number in
// include/uapi/linux/capability.h.
type Capability int

// A Need is a capability with what it is needed for.
type Need struct {
	Capability Capability
	Name       string
	Reason     string
	Required   bool // without it nothing can be traced; the others are for part of the work
	// CAP_SYS_ADMIN includes it, and stands for it on kernels that do not have it:
	// CAP_BPF and CAP_PERFMON came with 5.8.
	PartOfSysAdmin bool
}

// Needs lists every capability that some part of the work takes.
func Needs() []Need {
	return []Need{
		{unix.CAP_BPF, "CAP_BPF", "to load BPF programs and create their maps", true, true},
		{unix.CAP_PERFMON, "CAP_PERFMON", "to attach to functions and tracepoints, and to read kernel memory from a BPF program", true, true},
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "to attach to functions of a module by its BTF, and to look at interfaces in other network namespaces", false, false},
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "to change the features, the MTU or the queues of an interface, and to make the interfaces of the demo", false, false},
		{unix.CAP_SYSLOG, "CAP_SYSLOG", "to see the addresses of kernel functions, which reading the driver's code takes, and the kernel's log", false, false},
		{unix.CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", "to lift the limit on locked memory (RLIMIT_MEMLOCK), which BPF maps count against unless the kernel charges them to memory cgroups (5.11)", false, false},
	}
}

// Capabilities is the set that is in effect for a process.
type Capabilities uint64

// ReadCapabilities asks for those of the calling thread. Of what it has in a user
// namespace of its own only CAP_NET_ADMIN counts, which is for interfaces that are there.
func ReadCapabilities() (Capabilities, error) {
	has, err := threadCapabilities()
	if InUserNamespace() {
		has &= 1 << unix.CAP_NET_ADMIN
	}
	return has, err
}

// threadCapabilities are those in effect, whatever the namespace.
func threadCapabilities() (Capabilities, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // version 3 comes in two halves
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capabilities: %w", err)
	}
	return Capabilities(uint64(data[1].Effective)<<32 | uint64(data[0].Effective)), nil
}

// HowToGain is what a user with this ID does about a missing capability.
func HowToGain(uid int) string {
	if uid != 0 {
		return "run with sudo"
	}
	return "root lacks it here: add it to the container (--cap-add) or to the systemd unit (CapabilityBoundingSet=)"
}

// Has reports whether the set holds the capability itself.
func (c Capabilities) Has(capability Capability) bool {
	return c>>uint(capability)&1 == 1
}

// lastCapabilityPath has the number of the highest capability that the kernel knows.
const lastCapabilityPath = "/proc/sys/kernel/cap_last_cap"

// LastCapability is the highest one that the running kernel knows.
func LastCapability() (Capability, error) {
	text, err := os.ReadFile(lastCapabilityPath)
	if err != nil {
		return 0, fmt.Errorf("capabilities of the kernel: %w", err)
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("capabilities of the kernel: %s: %q is not a number", lastCapabilityPath, text)
	}
	return Capability(last), nil
}

// Missing returns the needs that are not met on a kernel that knows the capabilities up to
// last, with CAP_SYS_ADMIN in place of those that it does not know.
func (c Capabilities) Missing(last Capability) []Need {
	var missing []Need
	added := map[Capability]bool{}
	for _, need := range Needs() {
		if need.PartOfSysAdmin {
			if c.Has(unix.CAP_SYS_ADMIN) {
				continue
			}
			if need.Capability > last {
				need.Capability, need.Name = unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"
				need.Reason += ", for which this kernel has no capability of its own"
			}
		}
		if !c.Has(need.Capability) && !added[need.Capability] {
			added[need.Capability] = true
			missing = append(missing, need)
		}
	}
	return missing
}

const paranoidPath = "/proc/sys/kernel/perf_event_paranoid"

// KprobesTakeSysAdmin reports whether attaching a kprobe takes CAP_SYS_ADMIN here: the
// kernels of Debian and Ubuntu open no perf event without it while
// kernel.perf_event_paranoid is above 2, as it is by default. Upstream has no such level,
// and CAP_PERFMON suffices.
func KprobesTakeSysAdmin() (bool, error) { return kprobesTakeSysAdmin(paranoidPath) }

func kprobesTakeSysAdmin(path string) (bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("restriction of perf events: %w", err)
	}
	level, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return false, fmt.Errorf("restriction of perf events, %s: %q is not a number", path, text)
	}
	return level > 2, nil
}
