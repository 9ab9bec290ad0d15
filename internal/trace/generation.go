package trace

import "sync"

// A generation is the driver from one loading of its module to the next. Another
// driver may have been loaded, so each has an answer of its own to what became of
// packets over the limit.
type generation struct {
	began uint64 // CLOCK_BOOTTIME; earlier packets are of the one before
	linearization
}

func newGeneration(began uint64) *generation {
	return &generation{began: began, linearization: linearization{known: make(chan struct{})}}
}

// generations are those since the start, the present one last.
type generations struct {
	mu  sync.Mutex
	all []*generation
}

// begin begins a new one at that moment. The one before it has then sent its last
// packet. If its code was not read in time it stays unknown, for good.
func (g *generations) begin(moment uint64, unread string) *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.all); n > 0 {
		g.all[n-1].settle(unread)
	}
	next := newGeneration(moment)
	g.all = append(g.all, next)
	return next
}

// current returns the present one.
func (g *generations) current() *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[len(g.all)-1]
}

// lastRead returns the latest one whose code was read, else the present one.
func (g *generations) lastRead() *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := len(g.all) - 1; i >= 0; i-- {
		select {
		case <-g.all[i].known:
			return g.all[i]
		default:
		}
	}
	return g.all[len(g.all)-1]
}

// at returns the one that a packet of that moment was handed to.
func (g *generations) at(moment uint64) *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := len(g.all) - 1
	for i > 0 && g.all[i].began > moment {
		i--
	}
	return g.all[i]
}
