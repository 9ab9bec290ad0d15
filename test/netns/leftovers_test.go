package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// holdings are the BPF objects that a process holds, by their ids.
type holdings struct{ programs, links, maps []uint32 }

// holdingsOf waits until a process that watches holds all it needs, and returns that. What
// only records need is loaded a moment after it is ready.
func holdingsOf(t *testing.T, pid int) holdings {
	t.Helper()
	var h holdings
	eventually(t, "the program of the tracepoint backend and the one that finds owners, a link for each, and their maps", func() bool {
		h = readHoldings(t, pid)
		return len(h.programs) >= 2 && len(h.links) == 2 && len(h.maps) >= 5
	})
	return h
}

// readHoldings reads them from the process's descriptors.
func readHoldings(t *testing.T, pid int) holdings {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	must(t, err)
	var h holdings
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		must(t, err)
		h.add(string(text))
	}
	return h
}

func (h *holdings) add(text string) {
	ids := make(map[string]uint32)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
			ids[name] = uint32(id)
		}
	}
	switch {
	case ids["link_id"] != 0: // it shows its program too
		h.links = append(h.links, ids["link_id"])
	case ids["prog_id"] != 0:
		h.programs = append(h.programs, ids["prog_id"])
	case ids["map_id"] != 0:
		h.maps = append(h.maps, ids["map_id"])
	}
}

// gone waits until none of them is there any more. The kernel frees them a
// moment after the last descriptor is closed.
func (h holdings) gone(t *testing.T) {
	t.Helper()
	for _, id := range h.programs {
		eventually(t, fmt.Sprintf("program %d gone", id), func() bool {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
			if err == nil {
				must(t, p.Close())
			}
			return errors.Is(err, os.ErrNotExist)
		})
	}
	for _, id := range h.links {
		eventually(t, fmt.Sprintf("link %d gone", id), func() bool {
			l, err := link.NewFromID(link.ID(id))
			if err == nil {
				must(t, l.Close())
			}
			return errors.Is(err, os.ErrNotExist)
		})
	}
	for _, id := range h.maps {
		eventually(t, fmt.Sprintf("map %d gone", id), func() bool {
			m, err := ebpf.NewMapFromID(ebpf.MapID(id))
			if err == nil {
				must(t, m.Close())
			}
			return errors.Is(err, os.ErrNotExist)
		})
	}
}
