package main

import (
	"fmt"
	"io"

	"xentrace/test/xen/situation"
)

const opening = `# Side by side with ec2rl

What two modules of EC2 Rescue for Linux 1.1.7 and %[1]sxentrace check%[1]s report in %[2]d situations, and
what happened to real packets. This page is the output of %[1]smake test-xen-ec2rl%[1]s: Xen guests with
2 CPUs, with Debian's driver (stock) and with the driver of before 2014, which drops packets over
the limit (prefix).

In each situation datagrams over 18 slots and small ones that fit a page were sent, and %[1]stx_dropped%[1]s
was read. %[1]sxennetsgmtu%[1]s is right if it warns exactly where some were dropped. %[1]sxennetrocket%[1]s looks
for the defect that the last column shows: datagrams over 18 slots with scatter-gather on. The
modules' verdicts were computed twice, by a shell script in the guest (ethtool, ip, dmesg) and by
%[1]scheck --ec2rl%[1]s. Both agreed with the packets in every situation; otherwise this page is not written.

The column check has every related finding of %[1]scheck%[1]s. %[1]sxennetsgmtu%[1]s was wrong in %[3]d situations and
%[1]sxennetrocket%[1]s in %[4]d. Its remedy, an MTU of 9001 with scatter-gather off, cannot be set: the kernel
lowers the MTU to 1500 when scatter-gather is turned off.
`

// writePage writes the page as Markdown, a table for each run.
func writePage(out io.Writer, all []situation.Situation) {
	var sgmtu, rocket int
	for n := range all {
		sgmtu += wrong(all[n].SGMTU)
		rocket += wrong(all[n].Rocket)
	}
	fmt.Fprintf(out, opening, "`", len(all), sgmtu, rocket)
	for n := range all {
		s := &all[n]
		if n == 0 || all[n-1].Release != s.Release || all[n-1].Driver != s.Driver {
			fmt.Fprintf(out, "\n## %s, %s driver\n\n", s.Release, s.Driver)
			fmt.Fprintln(out, "| scatter-gather, MTU | besides | messages in dmesg | xennetsgmtu | xennetrocket | check | over 18 slots dropped | small dropped | over 18 slots dropped, scatter-gather on |")
			fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|---|")
		}
		fmt.Fprintf(out, "| %s, %d | %s | %d | %s | %s | %s | %s | %s | %s |\n", onOff(s.ScatterGather), s.MTU, dash(s.What), s.Messages,
			said(s.SGMTU), said(s.Rocket), ours(s.Ours), traffic(s.OverLimit), traffic(s.Small), traffic(s.Defect))
	}
}

func wrong(a situation.Answer) int {
	if a.Right {
		return 0
	}
	return 1
}

func said(a situation.Answer) string {
	if a.Right {
		return a.Verdict + ": right"
	}
	return a.Verdict + ": **wrong**"
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

func ours(findings string) string {
	if findings == "" {
		return "OK"
	}
	return findings
}

func traffic(t situation.Traffic) string { return fmt.Sprintf("%d of %d", t.Dropped, t.Sent) }
