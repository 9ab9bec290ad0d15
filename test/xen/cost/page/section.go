package main

import (
	"fmt"
	"io"
	"slices"

	"xentrace/test/xen/cost"
)

// A figure is one number of the page.
type figure struct {
	row, column string
	value       float64
	added       bool // over nothing attached: printed with a sign
	compared    bool // by --check
	digits      int
}

// table is one table of a kernel's section.
type table struct {
	title   string
	columns []string // the first is the rows' own
	figures []figure
	notes   []string
}

// section is what was measured on one kernel.
type section struct {
	kernel, uname string
	rounds        int // with each row attached
	tables        []table
}

const nothing = "nothing"

// The columns; the page is read back by them.
const (
	columnUDP       = "UDP 64 B"
	columnUDPMedian = "UDP, median"
	columnTCP       = "TCP 17 fragments"
	columnTCPMedian = "TCP, median"
	columnReceive   = "received UDP 64 B"
	columnReady     = "until ready, million instructions"
	columnElapsed   = "until ready, ms"
	columnPeak      = "peak RSS, MiB"
	columnSteady    = "steady RSS, MiB"
	columnBPF       = "BPF programs"
	columnUserspace = "userspace"
)

func newSection(kernel string, results []cost.Result) section {
	packets := table{
		title:   "Instructions per packet; rows below the first: added to it",
		columns: []string{"attached", columnUDP, columnUDPMedian, columnTCP, columnTCPMedian, columnReceive},
	}
	start := table{title: "Start and memory", columns: []string{"command", columnReady, columnElapsed, columnPeak, columnSteady}}
	report := table{title: "Instructions per reported packet", columns: []string{"command", columnBPF, columnUserspace}}
	packets.addNothing(results)
	rounds := 0
	for _, r := range results {
		row := rowNamed(r.Row)
		if r.Missing != "" {
			packets.notes = append(packets.notes, fmt.Sprintf("No row %q on this kernel: %s.", r.Row, r.Missing))
			continue
		}
		packets.addPackets(row, r)
		if udp := r.Packets[cost.UDP]; udp != nil {
			rounds = max(rounds, len(udp.With))
		}
		if r.Start != nil {
			start.addStart(row, r)
		}
		if r.Report != nil {
			report.figures = append(report.figures,
				figure{row: r.Row, column: columnBPF, value: float64(r.Report.BPF)},
				figure{row: r.Row, column: columnUserspace, value: float64(r.Report.Userspace)})
		}
	}
	s := section{kernel: kernel, uname: results[0].Kernel, rounds: rounds}
	for _, t := range []table{packets, start, report} {
		if len(t.figures) > 0 {
			s.tables = append(s.tables, t)
		}
	}
	return s
}

func rowNamed(name string) cost.Row {
	all := cost.Rows()
	if i := slices.IndexFunc(all, func(r cost.Row) bool { return r.Name == name }); i >= 0 {
		return all[i]
	}
	return cost.Row{Name: name}
}

// addNothing adds the row of bare packets, which the rounds of every row measured.
func (t *table) addNothing(results []cost.Result) {
	bare := make(map[cost.Traffic][]float64)
	for _, r := range results {
		for traffic, s := range r.Packets {
			bare[traffic] = append(bare[traffic], s.Without...)
		}
	}
	for _, c := range packetColumns() {
		if values := bare[c.traffic]; len(values) > 0 {
			t.figures = append(t.figures, figure{row: nothing, column: c.name, value: c.of(values)})
		}
	}
}

// packetColumn is a column of the first table: of which packets, and which of the rounds.
type packetColumn struct {
	name    string
	traffic cost.Traffic
	of      func([]float64) float64
}

func packetColumns() []packetColumn {
	return []packetColumn{
		{columnUDP, cost.UDP, slices.Min[[]float64]},
		{columnUDPMedian, cost.UDP, median},
		{columnTCP, cost.TCP, slices.Min[[]float64]},
		{columnTCPMedian, cost.TCP, median},
		{columnReceive, cost.Receive, slices.Min[[]float64]},
	}
}

func (t *table) addPackets(row cost.Row, r cost.Result) {
	for _, c := range packetColumns() {
		s := r.Packets[c.traffic]
		if s == nil || len(s.With) == 0 || len(s.Without) == 0 {
			continue
		}
		t.figures = append(t.figures, figure{
			row: row.Name, column: c.name, value: c.of(s.With) - c.of(s.Without), added: true,
			compared: row.Checked && c.name == columnUDP,
		})
	}
}

func (t *table) addStart(row cost.Row, r cost.Result) {
	const million, kibibytes = 1e6, 1024
	t.figures = append(t.figures,
		figure{row: row.Name, column: columnReady, value: float64(slices.Min(r.Start.Instructions)) / million},
		figure{row: row.Name, column: columnElapsed, value: float64(slices.Min(r.Start.Elapsed)) / million},
		figure{row: row.Name, column: columnPeak, value: float64(r.Start.PeakKiB) / kibibytes, digits: 1},
		figure{row: row.Name, column: columnSteady, value: float64(r.Start.SteadyKiB) / kibibytes, digits: 1})
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

const (
	allowed = 1.03 // of what the page says
	slack   = 10   // instructions: two runs of the same program differ by less
)

// dearer returns a line for every figure that is compared and costs more than the page says,
// or is not on it.
func (s section) dearer(committed figures) (lines []string) {
	for _, t := range s.tables {
		for _, f := range t.figures {
			was, known := committed[f.place()]
			switch {
			case !f.compared:
			case !known:
				lines = append(lines, fmt.Sprintf("%s, %s, %s: %.0f instructions, not on the page", s.kernel, f.row, f.column, f.value))
			case f.value > was*allowed+slack:
				lines = append(lines, fmt.Sprintf("%s, %s, %s: %.0f instructions, was %.0f", s.kernel, f.row, f.column, f.value, was))
			}
		}
	}
	return lines
}

func (s section) write(out io.Writer, committed figures) {
	fmt.Fprintf(out, "## %s\n\n%s, %d rounds\n", s.kernel, s.uname, s.rounds)
	for _, t := range s.tables {
		t.write(out, committed)
	}
}
