package record

import (
	"time"

	"xentrace/internal/event"
)

const (
	// mostBoots is how many boots are remembered; a new one takes the place of the oldest. A run
	// of a forgotten boot is placed by its wall clock.
	mostBoots = 4096
	// maxBootID bounds what identifies a boot, a UUID.
	maxBootID = 64
)

// A boot is where the time of one boot begins: the first start of it that was read.
type boot struct {
	wall   time.Time
	uptime time.Duration
}

// boots remembers boots. Its memory is bounded.
type boots struct {
	known map[string]boot
	order []string // the oldest is the next to be forgotten, once there are mostBoots
	next  int
}

// of returns the boot of a start.
func (b *boots) of(start *event.Start) boot {
	if first, known := b.known[start.BootID]; known {
		return first
	}
	first := boot{start.Time, start.Uptime}
	switch {
	case len(start.BootID) > maxBootID:
		return first
	case len(b.order) < mostBoots:
		b.order = append(b.order, start.BootID)
	default:
		delete(b.known, b.order[b.next])
		b.order[b.next] = start.BootID
		b.next = (b.next + 1) % mostBoots
	}
	b.known[start.BootID] = first
	return first
}
