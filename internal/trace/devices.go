package trace

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
)

// deviceCaches are the BPF programs' caches of the device that transmitted last, one for each
// CPU; see generation in bpf/maps.h.
type deviceCaches struct {
	mu         sync.Mutex
	generation *ebpf.Variable
	cleared    uint32 // how often
	used       bool
}

// use has the programs use them from now on, or not: only while they see devices being opened.
func (c *deviceCaches) use(on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = on
	return c.renew()
}

// clear empties them: the interfaces have changed, or whether packets are counted.
func (c *deviceCaches) clear() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renew()
}

// renew sets a generation that was not there before. It may overwrite one that the programs
// have just counted up, which is older.
func (c *deviceCaches) renew() error {
	var generation uint64
	if c.used {
		c.cleared++
		generation = uint64(c.cleared) << 32
	}
	if err := c.generation.Set(generation); err != nil {
		return fmt.Errorf("caches of the BPF programs: %w", err)
	}
	return nil
}
