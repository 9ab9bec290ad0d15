package event

import "time"

// Format is the version of recordings that this program writes, as Start.Format. A
// change that older readers cannot ignore raises it.
const Format = 1

// A Start is the first event of a recording, and of each of its segments: what a reader
// on another machine needs to know of this one.
type Start struct {
	Time    time.Time
	Format  int
	Segment int // 1 for the first of a run, 2 for the next; 0 if it is not known

	Version string // of xentrace
	Commit  string // it was built from; empty if unknown
	Command []string

	BootID   string        // /proc/sys/kernel/random/boot_id
	Uptime   time.Duration // CLOCK_BOOTTIME: orders runs of one boot, however the wall clock was set
	Hostname string
	Kernel   string // release, as uname -r prints it
	Machine  string // uname -m
	Xen      *Xen   // nil on a machine without Xen

	Interfaces []StartInterface
	Check      []Finding // of xentrace check when the recording began; nil if it did not run
}

// Xen is the hypervisor as /sys/hypervisor reports it.
type Xen struct {
	Version string // e.g. "4.17.5"
	Type    string // of the guest: PV, PVH or HVM; empty if unknown
}

// A StartInterface is a watched interface when a recording began.
type StartInterface struct {
	Device
	Driver     string
	MTU        int
	Features   map[string]bool // by ethtool's name; nil if unknown
	Queues     int             // TX queues in use; 0 if unknown
	Linearizes *bool           // the driver linearizes packets over the slot limit; nil if unknown
}
