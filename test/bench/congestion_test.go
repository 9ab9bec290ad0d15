package bench

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/test/tool"
)

const (
	measuring = "xentrace congestion"
	sizesJob  = "bpftrace, sizes only"
)

// sizesScript draws the histogram of packet sizes of one interface and nothing else.
const sizesScript = `
BEGIN { printf("ready\n"); }
tracepoint:net:net_dev_start_xmit
{
	$skb = (struct sk_buff *)args->skbaddr;
	if ($skb->dev->ifindex == %d) { @size = hist(args->len); }
}
`

// BenchmarkCongestion measures the sender's CPU time for each packet while nothing,
// xentrace congestion, or bpftrace with the histogram of sizes alone looks at it.
func BenchmarkCongestion(b *testing.B) {
	l := newLab(b)
	all := []observer{
		{name: nothing, attach: func() func() { return func() {} }},
		{name: measuring, program: "congestion_begi", attach: func() func() {
			run := tool.Start(b, xentrace, "congestion", "-i", "near", "-o", "json", "-d", "0")
			return func() { run.StopMeasuring() }
		}},
		{name: sizesJob, kind: ebpf.TracePoint, attach: func() func() {
			detach := attachScript(b, fmt.Sprintf(sizesScript, l.ifindex), "@size:")
			return func() { detach() }
		}},
	}
	s := newSender(l, newFlood(l), newTCPFragments(l))
	for b.Loop() {
		t := table{
			title: fmt.Sprintf("congestion: sender's CPU time for each packet on a veth, ns (medians of %d interleaved rounds)", rounds),
			head:  []string{"traffic", nothing, "congestion", "bpftrace, sizes", "congestion adds", "bpftrace adds", "congestion : bpftrace"},
		}
		for i, costs := range s.costs(b, all) {
			kind := s.kinds[i]
			own, ownSpread := added(costs[measuring], costs[nothing])
			other, otherSpread := added(costs[sizesJob], costs[nothing])
			ratio := own / other
			t.rows = append(t.rows, []string{
				kind.name, fmt.Sprintf("%.0f", median(costs[nothing])), fmt.Sprintf("%.0f", median(costs[measuring])), fmt.Sprintf("%.0f", median(costs[sizesJob])),
				fmt.Sprintf("%.0f ± %.0f", own, ownSpread), fmt.Sprintf("%.0f ± %.0f", other, otherSpread), fmt.Sprintf("%.3f", ratio),
			})
			findings.goal("congestion adds, to what bpftrace's sizes add: "+kind.name, "≤ 1/2", fmt.Sprintf("%.3f", ratio), ratio <= 0.5)
			b.ReportMetric(ratio, metric("congestion-to-bpftrace", kind))
		}
		findings.add(t)
	}
}
