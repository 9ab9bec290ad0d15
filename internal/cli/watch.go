package cli

import (
	"context"

	"xentrace/internal/output"
)

func watchCommand() *command {
	return &command{
		name:  "watch",
		short: "show each packet that went wrong, as it happens, and a summary at the end",
		long: []string{
			"Shows one line for each packet that the Xen network frontend dropped, linearized or bounced: when, on which interface, why, how many slots it needed of how many there are, its length, its flow and, for TCP, its sequence number. At the end it tells what was counted, what each cause means, and what to do about it.",
			"On an interface of another driver, named with --interface, it shows the packets that a Xen frontend would not have taken as they are.",
			"It goes on through what happens to interfaces: detached and attached, renamed, moved to another network namespace. With the backends kprobe and tracepoint it also goes on through an unloading and loading of the driver; fentry holds the driver's module in place. Times in which nothing could be counted are told.",
			"It runs until it is interrupted or --duration is over. A second interrupt ends it at once, without a summary.",
		},
		flags: append(traceFlags("until interrupted"), recordFlags()...),
		examples: []example{
			{"xentrace watch", "every Xen interface, until interrupted"},
			{"xentrace watch -i eth0 -d 1m -o json > drops.json", "one minute of eth0, for a script"},
			{"xentrace watch --count 1 --exit-code", "status 1 as soon as a packet goes wrong, if it was dropped"},
		},
		run: runWatch,
	}
}

func runWatch(ctx context.Context, in *invocation) error {
	totals, err := follow(ctx, in, true, output.Format.AppendSummary)
	if ignoringPipe(err) == nil && in.exitCode && output.AnyDropped(&totals) {
		return errFinding
	}
	return err
}
