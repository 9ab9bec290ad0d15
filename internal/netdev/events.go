package netdev

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// EventChannels are what the kernel counted of a frontend's event channels since it was attached
// (Linux 5.12). Each is a counter of 32 bits that wraps.
type EventChannels struct {
	Events         uint32
	Spurious       uint32 // that found nothing to do
	DelayedJiffies uint32 // for which the end of an interrupt was delayed
	Threshold      int    // spurious events in a row that are not delayed
}

// ErrNoEventCounters: a kernel before 5.12, or another driver's device.
var ErrNoEventCounters = errors.New("this kernel does not count them (before 5.12)")

// ReadEventChannels reads those of a device such as vif-0. files is the machine's root.
func ReadEventChannels(files fs.FS, device string) (EventChannels, error) {
	var counts [4]uint64
	for n, name := range []string{"events", "spurious_events", "jiffies_eoi_delayed", "spurious_threshold"} {
		content, err := fs.ReadFile(files, "sys/devices/"+device+"/xenbus/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			return EventChannels{}, ErrNoEventCounters
		}
		if err != nil {
			return EventChannels{}, fmt.Errorf("event channels of %s: %w", device, err)
		}
		// The kernel prints them with a sign.
		count, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
		if err != nil {
			return EventChannels{}, fmt.Errorf("event channels of %s: %s: %w", device, name, err)
		}
		counts[n] = uint64(count)
	}
	return EventChannels{uint32(counts[0]), uint32(counts[1]), uint32(counts[2]), int(uint32(counts[3]))}, nil
}
