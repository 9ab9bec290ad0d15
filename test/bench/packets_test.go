package bench

import (
	"fmt"
	"testing"
)

// BenchmarkPackets measures the sender's CPU time for each packet while nothing,
// an empty program, xentrace or bpftrace looks at it.
func BenchmarkPackets(b *testing.B) {
	l := newLab(b)
	all := observers(b, l)
	s := newSender(l, newFlood(l), newMirrored(l), newTCPFragments(l))
	for b.Loop() {
		t := table{
			title: fmt.Sprintf("Sender's CPU time for each packet on a veth, ns (medians of %d interleaved rounds)", rounds),
			head:  []string{"traffic", nothing, "empty", "hist", "watch", "bpftrace", "empty adds", "hist adds", "watch adds", "bpftrace adds", "hist : bpftrace", "watch : bpftrace"},
			notes: []string{
				"\"empty adds\" and \"bpftrace adds\" are over nothing attached, \"hist adds\" and \"watch adds\" over the empty",
				"program: medians of the differences within a round, ± half the distance of their quartiles.",
			},
		}
		for i, costs := range s.costs(b, all) {
			t.rows = append(t.rows, costRow(b, s.kinds[i], costs))
		}
		findings.add(t)
	}
}

// costRow makes a row of the table, and shows the goal.
func costRow(b *testing.B, kind traffic, costs map[string]samples) []string {
	row := []string{kind.name}
	for _, name := range []string{nothing, emptyRaw, histogram, watching, bpftraceJob} {
		row = append(row, fmt.Sprintf("%.0f", median(costs[name])))
	}
	differences := [][2]string{{emptyRaw, nothing}, {histogram, emptyRaw}, {watching, emptyRaw}, {bpftraceJob, nothing}}
	var adds []float64
	for _, d := range differences {
		middle, spread := added(costs[d[0]], costs[d[1]])
		adds = append(adds, middle)
		row = append(row, fmt.Sprintf("%.0f ± %.0f", middle, spread))
	}
	for i, name := range []string{histogram, watching} {
		ratio := adds[1+i] / adds[3]
		row = append(row, fmt.Sprintf("%.3f", ratio))
		findings.goal(fmt.Sprintf("%s adds, to what bpftrace adds: %s", name, kind.name), "≤ 1/4", fmt.Sprintf("%.3f", ratio), ratio <= 0.25)
		b.ReportMetric(ratio, metric(name+"-to-bpftrace", kind))
	}
	return row
}
