package trace

import (
	"time"

	"xentrace/internal/kernel"
)

// moduleState is what is known of the driver's module, and whether it is hooked into.
type moduleState struct {
	loading kernel.Module // the one that is hooked into, or was last
	there   bool          // it is in the kernel, and hooked into
	seen    time.Time     // when it was so last
}

// moduleChange is what a look at the module shows.
type moduleChange struct {
	left  bool      // the module that was hooked into is gone
	since time.Time // from when on that must be reckoned with
	back  bool      // there is one that can be hooked into
}

// look compares the module in the kernel with the one that is hooked into.
func (s *moduleState) look(now time.Time, loading kernel.Module, loaded bool) moduleChange {
	var c moduleChange
	switch {
	case s.there && !loaded:
		c.left, c.since = true, now
	case s.there && loading != s.loading:
		// It went and came since the last look, so nobody knows since when.
		c.left, c.since = true, s.seen
	case s.there:
		s.seen = now
	}
	if c.left {
		s.there = false
	}
	// A module that is leaving still has its directory for a moment.
	c.back = !s.there && loaded && loading != s.loading
	return c
}

// hooked notes that the module is hooked into.
func (s *moduleState) hooked(now time.Time, loading kernel.Module) {
	s.loading, s.there, s.seen = loading, true, now
}
