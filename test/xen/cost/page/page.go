package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const opening = `# What it costs

Instructions that a packet costs while xentrace is attached, measured with the real driver in a Xen guest of one vCPU.
This page is the output of ` + "`make bench-xen`" + ` (see [test/xen](../test/xen/README.md#cost)). The change against the
page as it was before stands in parentheses.

- **least, median**: of the rounds; a round is the median of 12 bursts of 10 datagrams or 2 segments. A column without "median" is the least.
- **received**: instructions of the NET_RX softirq per packet, in bursts of 10.
- **until ready**: CPU time of the process from fork to its ready file, in instructions; the elapsed time includes waits.
- **peak RSS**: of the whole run; the guest's binary is in memory too (a tmpfs), the ring buffer of 4 MiB is kernel memory, of which 128 KiB are mapped, and counted, at a time.
- **per reported packet**: run time of the BPF programs, and CPU time of the process with its system calls.

`

// place is where a figure stands.
type place struct{ row, column string }

type figures map[place]float64

func (f figure) place() place { return place{f.row, f.column} }

// parsePage returns the figures of each kernel.
func parsePage(page string) map[string]figures {
	all := make(map[string]figures)
	var kernel string
	var columns []string
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if name, found := strings.CutPrefix(line, "## "); found {
			kernel = name
			all[kernel] = make(figures)
		}
		if !strings.HasPrefix(line, "|") || kernel == "" {
			columns = nil
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if columns == nil {
			columns = cells
			continue
		}
		for i, cell := range cells[1:] {
			if value, ok := number(cell); ok {
				all[kernel][place{cells[0], columns[i+1]}] = value
			}
		}
	}
	return all
}

var leading = regexp.MustCompile(`^[+-]?[0-9.]+`)

func number(cell string) (float64, bool) {
	value, err := strconv.ParseFloat(leading.FindString(cell), 64)
	return value, err == nil
}

// write writes a table with the change of each figure.
func (t table) write(out io.Writer, committed figures) {
	fmt.Fprintf(out, "\n%s:\n\n| %s |\n|%s\n", t.title, strings.Join(t.columns, " | "), "---|"+strings.Repeat("---:|", len(t.columns)-1))
	var rows []string
	for _, f := range t.figures {
		if !slices.Contains(rows, f.row) {
			rows = append(rows, f.row)
		}
	}
	for _, row := range rows {
		cells := []string{row}
		for _, column := range t.columns[1:] {
			cells = append(cells, t.cell(place{row, column}, committed))
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
	for _, note := range t.notes {
		fmt.Fprintf(out, "\n%s\n", note)
	}
}

func (t table) cell(at place, committed figures) string {
	for _, f := range t.figures {
		if f.place() != at {
			continue
		}
		format := "%.*f"
		if f.added {
			format = "%+.*f"
		}
		text := fmt.Sprintf(format, f.digits, f.value)
		if was, known := committed[at]; known && was != 0 {
			text += fmt.Sprintf(" (%+.1f %%)", 100*(f.value-was)/was)
		}
		return text
	}
	return "–"
}

// writePage writes the page with the new sections in place of the kernels' old ones.
func writePage(out io.Writer, old string, sections []section, committed map[string]figures) {
	parts := oldSections(old)
	var kernels []string
	for _, part := range parts {
		kernels = append(kernels, part.kernel)
	}
	for _, s := range sections {
		var text strings.Builder
		s.write(&text, committed[s.kernel])
		if i := slices.Index(kernels, s.kernel); i >= 0 {
			parts[i].text = text.String()
			continue
		}
		kernels = append(kernels, s.kernel)
		parts = append(parts, oldSection{s.kernel, text.String()})
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = strings.TrimSpace(part.text)
	}
	fmt.Fprintln(out, opening+strings.Join(texts, "\n\n"))
}

type oldSection struct{ kernel, text string }

func oldSections(page string) (parts []oldSection) {
	pieces := strings.Split("\n"+page, "\n## ")
	for _, piece := range pieces[1:] {
		kernel, _, _ := strings.Cut(piece, "\n")
		parts = append(parts, oldSection{kernel, "## " + piece})
	}
	return parts
}
