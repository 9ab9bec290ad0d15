package main

import (
	"fmt"
	"slices"
	"strings"

	"xentrace/test/xen/cell"
)

// place is where a cell is in the matrix.
type place struct{ path, kernel, backend string }

// A matrix is what the runs reported.
type matrix struct {
	kernels  []string
	cells    map[place]cell.Cell
	sessions []cell.Session
	doubled  []place
}

func newMatrix(kernels []string) *matrix {
	return &matrix{kernels: kernels, cells: make(map[place]cell.Cell)}
}

// read takes in the output of a run.
func (m *matrix) read(text string) error {
	var cells []cell.Cell
	for line := range strings.Lines(text) {
		if err := cell.Parse(line, &cells, &m.sessions); err != nil {
			return err
		}
	}
	for _, c := range cells {
		at := place{c.Path, c.Kernel, c.Backend}
		if _, there := m.cells[at]; there {
			m.doubled = append(m.doubled, at)
		}
		m.cells[at] = c
	}
	return nil
}

// each calls do for every place that the matrix must have, row by row.
func (m *matrix) each(do func(at place)) {
	for _, path := range cell.Paths {
		for _, kernel := range m.kernels {
			for _, backend := range cell.Backends {
				do(place{path.ID, kernel, backend})
			}
		}
	}
}

// faults are the cells that are red or missing, one sentence each.
func (m *matrix) faults() []string {
	var faults []string
	fault := func(at place, format string, values ...any) {
		faults = append(faults, fmt.Sprintf("RED %s, kernel %s, %s: %s", at.path, at.kernel, at.backend, fmt.Sprintf(format, values...)))
	}
	m.each(func(at place) {
		c, there := m.cells[at]
		switch {
		case !there:
			fault(at, "missing: the run wrote no such cell")
		case c.Status == cell.Impossible && c.Why == "":
			fault(at, "cannot exist, and does not say why")
		case c.Status != cell.Agrees && c.Status != cell.Impossible:
			fault(at, "%s", c.Why)
		}
	})
	for _, at := range m.doubled {
		fault(at, "there is more than one such cell")
	}
	for at, c := range m.cells {
		if _, known := cell.PathOf(c.Path); !known || !slices.Contains(m.kernels, c.Kernel) {
			fault(at, "no such cell was asked for")
		}
	}
	return faults
}

// numbers are how many cells agree, and how many cannot exist.
func (m *matrix) numbers() (agree, impossible int) {
	m.each(func(at place) {
		if m.cells[at].Status == cell.Agrees {
			agree++
		} else {
			impossible++
		}
	})
	return agree, impossible
}

// release is what a kernel calls itself.
func (m *matrix) release(kernel string) string {
	for _, c := range m.cells {
		if c.Kernel == kernel {
			return c.Release
		}
	}
	return kernel
}

// sums adds up a number of each session of a kernel.
func (m *matrix) sums(kernel string, of func(s *cell.Session) uint64) uint64 {
	var sum uint64
	for i := range m.sessions {
		if m.sessions[i].Kernel == kernel {
			sum += of(&m.sessions[i])
		}
	}
	return sum
}

// causes are the causes of drops that any session reported, in order.
func (m *matrix) causes() []string {
	var causes []string
	for _, s := range m.sessions {
		for cause := range s.Causes {
			causes = append(causes, cause)
		}
	}
	slices.Sort(causes)
	return slices.Compact(causes)
}
