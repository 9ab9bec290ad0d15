package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"xentrace/test/xen/cell"
)

const opening = `# Every path, every kernel

Each path of a packet through xen-netfront, what xentrace reports, and whether that is
right. This page is made of the output of %stest/xen/matrix%s in the Xen
lab (test/xen): real guests with the real driver, and variants of it where Debian's
cannot take the path. The guests are PV, those of columns with PVH hardware-virtualised.

A mark stands for a backend, in the order fentry, kprobe, tracepoint:
✔ what was sent, what xentrace reported, the interface's %stx_dropped%s and what the peer received agree, to the packet;
– such a cell cannot exist, for the reason in the note. There is no other mark: the
run fails, and this page is not written, if a cell disagrees or is missing.

- [Totals](#totals)
- [Every cell](#every-cell): %s

`

// page writes the matrix as Markdown.
func (m *matrix) page(out io.Writer) {
	var links []string
	for _, path := range cell.Paths {
		links = append(links, fmt.Sprintf("[%s](#%s)", path.ID, path.ID))
	}
	fmt.Fprintf(out, opening, "`", "`", "`", "`", strings.Join(links, ", "))
	notes := &notes{}
	m.marks(out, notes)
	notes.write(out)
	m.totals(out)
	m.details(out)
}

// marks writes the one table.
func (m *matrix) marks(out io.Writer, notes *notes) {
	fmt.Fprint(out, "| path | driver | made to happen by |")
	for _, kernel := range m.kernels {
		fmt.Fprintf(out, " %s |", m.release(kernel))
	}
	fmt.Fprintf(out, "\n|%s\n", strings.Repeat("---|", 3+len(m.kernels)))
	for _, path := range cell.Paths {
		fmt.Fprintf(out, "| %s | %s | %s |", path.What, path.Driver, path.How)
		for _, kernel := range m.kernels {
			fmt.Fprintf(out, " %s |", m.mark(path.ID, kernel, notes))
		}
		fmt.Fprintln(out)
	}
}

// mark is a field of the table: a mark for each backend, and its notes.
func (m *matrix) mark(path, kernel string, notes *notes) string {
	var marks, references []string
	for _, backend := range cell.Backends {
		c := m.cells[place{path, kernel, backend}]
		text, mark := c.Note, "✔"
		if c.Status == cell.Impossible {
			text, mark = c.Why, "–"
		}
		marks = append(marks, mark)
		if text == "" {
			continue
		}
		if reference := notes.number(text); !slices.Contains(references, reference) {
			references = append(references, reference)
		}
	}
	return strings.TrimSpace(strings.Join(marks, "") + " " + strings.Join(references, " "))
}

// notes are numbered as they come.
type notes struct{ texts []string }

func (n *notes) number(text string) string {
	at := slices.Index(n.texts, text)
	if at < 0 {
		at = len(n.texts)
		n.texts = append(n.texts, text)
	}
	return fmt.Sprintf("(%d)", at+1)
}

func (n *notes) write(out io.Writer) {
	fmt.Fprintln(out)
	for i, text := range n.texts {
		fmt.Fprintf(out, "%d. %s\n", i+1, text)
	}
}

// totals writes the sums over all runs.
func (m *matrix) totals(out io.Writer) {
	fmt.Fprint(out, "\n## Totals\n\n| |")
	for _, kernel := range m.kernels {
		fmt.Fprintf(out, " %s |", m.release(kernel))
	}
	fmt.Fprintf(out, " sum |\n|---|%s\n", strings.Repeat("---|", 1+len(m.kernels)))
	line := func(name string, of func(s *cell.Session) uint64) {
		fmt.Fprintf(out, "| %s |", name)
		var sum uint64
		for _, kernel := range m.kernels {
			n := m.sums(kernel, of)
			sum += n
			fmt.Fprintf(out, " %d |", n)
		}
		fmt.Fprintf(out, " %d |\n", sum)
	}
	line("runs of xentrace", func(*cell.Session) uint64 { return 1 })
	line("packets handed to the driver: `tx_packets` and `tx_dropped`", func(s *cell.Session) uint64 { return s.TxPackets + s.TxDropped })
	line("packets counted by xentrace", func(s *cell.Session) uint64 { return s.Counted })
	line("packets that xentrace reports as possibly missed: kprobes skipped by the kernel (counted since 6.7)", func(s *cell.Session) uint64 { return s.Skipped })
	line("`tx_dropped`", func(s *cell.Session) uint64 { return s.TxDropped })
	line("drops counted by xentrace", func(s *cell.Session) uint64 { return s.Dropped })
	for _, cause := range m.causes() {
		line(fmt.Sprintf("– `%s`", cause), func(s *cell.Session) uint64 { return s.Causes[cause] })
	}
	line("linearized", func(s *cell.Session) uint64 { return s.Linearized })
	line("bounced", func(s *cell.Session) uint64 { return s.Bounced })
	line("rejected", func(s *cell.Session) uint64 { return s.Rejected })
	line("records", func(s *cell.Session) uint64 { return s.Records })
	line("false records", func(s *cell.Session) uint64 { return s.FalseRecords })
}

// details writes what was seen in every cell.
func (m *matrix) details(out io.Writer) {
	fmt.Fprint(out, "\n## Every cell\n\nPackets sent on the path and ordinary ones between them; how many took the path, counted\nwithout xentrace; what xentrace reported; how much the interface's counters increased; and\nwhat the peer received.\n")
	for _, path := range cell.Paths {
		fmt.Fprintf(out, "\n### %s\n\n%s. Driver: %s; %s.\n\n", path.ID, path.What, path.Driver, path.How)
		fmt.Fprint(out, "| kernel | backend | sent | took the path | xentrace reported | tx_packets | tx_dropped | arrived |\n|---|---|---|---|---|---|---|---|\n")
		for _, kernel := range m.kernels {
			for _, backend := range cell.Backends {
				detail(out, m.cells[place{path.ID, kernel, backend}])
			}
		}
	}
}

func detail(out io.Writer, c cell.Cell) {
	if c.Status == cell.Impossible {
		return
	}
	fmt.Fprintf(out, "| %s | %s | %d + %d | %d | %s | %d | %d | %d + %d |\n", c.Release, c.Backend,
		c.Sent.Path, c.Sent.Ordinary, c.Struck, said(c.Said), c.TxPackets, c.TxDropped, c.Arrived.Path, c.Arrived.Ordinary)
}

// said is what xentrace reported, in words.
func said(counts map[string]uint64) string {
	if len(counts) == 0 {
		return "nothing"
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(parts, ", ")
}
