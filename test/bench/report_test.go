package bench

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// report is what the benchmarks found.
type report struct {
	tables []table
	goals  table
}

// table is written with bars, so that it can be put into a document as it is.
type table struct {
	title string
	head  []string
	rows  [][]string
	notes []string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (r *report) add(t table) { r.tables = append(r.tables, t) }

// goal adds a line that says whether a goal was met.
func (r *report) goal(what, limit, measured string, met bool) {
	verdict := "missed"
	if met {
		verdict = "met"
	}
	r.goals.add(what, limit, measured, verdict)
}

func (r *report) write(w io.Writer) {
	for _, t := range r.tables {
		t.write(w)
	}
	if len(r.goals.rows) > 0 {
		r.goals.title = "Goals"
		r.goals.head = []string{"what", "goal", "measured", ""}
		r.goals.write(w)
	}
}

func (t *table) write(w io.Writer) {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintf(w, "\n%s\n\n", t.title)
	writeRow(w, t.head, widths)
	rule := make([]string, len(widths))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", width)
	}
	writeRow(w, rule, widths)
	for _, row := range t.rows {
		writeRow(w, row, widths)
	}
	if len(t.notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, note := range t.notes {
		fmt.Fprintln(w, note)
	}
}

// writeRow aligns the first column to the left, the others to the right.
func writeRow(w io.Writer, cells []string, widths []int) {
	for i, cell := range cells {
		blank := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if i == 0 {
			fmt.Fprintf(w, "| %s%s |", cell, blank)
		} else {
			fmt.Fprintf(w, " %s%s |", blank, cell)
		}
	}
	fmt.Fprintln(w)
}

// metric makes a unit for testing.B.ReportMetric, which allows no blanks.
func metric(name string, kind traffic) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(name + "/" + kind.name)
}
