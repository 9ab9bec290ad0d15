package cli

import (
	"context"
	"errors"
	"slices"

	"xentrace/internal/event"
	"xentrace/internal/session"
	"xentrace/internal/trace"
)

func watchCommand() *command {
	return &command{
		name:  "watch",
		short: "show each packet that went wrong, as it happens, and a summary at the end",
		long: []string{
			"Shows one line for each packet that the Xen network frontend dropped, linearized or bounced: when, on which interface, why, how many slots it needed of how many there are, its length, its flow and, for TCP, its sequence number. At the end it tells what was counted, what each cause means, and what to do about it.",
			"With --drops all it also shows the packets that the kernel dropped before the driver was handed them, in a queueing discipline, a packet filter or the IP stack: the line ends with the kernel's reason, where it has one (since Linux 5.17), and the function that dropped the packet; -v shows the whole stack below. Such a packet is told of for the interface that it was to leave by; packets received there are not. --drops-hook kprobe does the same where kprobes are preferred; a packet that two processors let go of at the same moment it does not see.",
			"With --stack it also shows, below each packet, the call that sent it: the kernel's functions beginning with the driver's, and behind them those of the program, as far as its frame pointers lead. A packet that no call sent has none, such as a retransmission, which a timer sends. It costs nothing for packets that are sent as usual.",
			"It follows the flows that lost packets, and says when a TCP connection stalls (the same sequence number was dropped again, and nothing was acknowledged since the first time), when it goes on, and when it is closed: since when, what was dropped, how much was sent again, what waits. At the end it lists the worst of them.",
			"On an interface of another driver, named with --interface, it shows the packets that a Xen frontend would not have taken as they are.",
			"The line ends with the process that owns the packet's socket, its name and number, where that can be known; JSON also has its user, its systemd unit and its container.",
			"Filters choose what is shown: each that is given has to be met, by one of its values if it is given several times. Every packet is counted all the same, and the summary says how many events were left out. A flow that stalls, recovers or ends passes if the last packet of it that went wrong does.",
			"It goes on through what happens to interfaces: detached and attached, renamed, moved to another network namespace. With the backends kprobe and tracepoint it also goes on through an unloading and loading of the driver; fentry holds the driver's module in place. Times in which nothing could be counted are told.",
			"With --live it shows the counts, the worst flows and the last events on the whole screen of a terminal, with all that is known of a flow one key away; the keys are shown there. Where standard output is no terminal it writes lines.",
			"It runs until it is interrupted or --duration is over. A second interrupt ends it at once, without a summary.",
		},
		flags: slices.Concat(traceFlags("until interrupted"), []*flag{liveFlag()}, dropsFlags(), []*flag{stackFlag()}, filterFlags(), recordFlags()),
		examples: []example{
			{"xentrace watch", "every Xen interface, until interrupted"},
			{"xentrace watch -i eth0 -d 1m -o json > drops.json", "one minute of eth0, for a script"},
			{"xentrace watch -i eth0 --drops all -v", "also what is lost before the driver, and where"},
			{"xentrace watch --live", "on a whole screen: counts, the worst flows, the last events"},
			{"xentrace watch --stack", "also which functions of which program sent it"},
			{"xentrace watch --host 10.0.0.0/8 --port 443 --comm nginx", "only what nginx sends to or from port 443 of that network"},
			{"xentrace watch --count 1 --exit-code", "status 1 as soon as a packet goes wrong, if it was dropped"},
		},
		run: runWatch,
	}
}

func runWatch(ctx context.Context, in *invocation) error {
	if in.dropsHook != string(trace.DropsTracepoint) && in.drops != string(event.DropsAll) {
		return usageError{errors.New("watch: --drops-hook: without --drops all it does nothing; see xentrace help watch")}
	}
	wanted, err := in.wantsScreen()
	if err != nil {
		return err
	}
	in.live = wanted
	result, err := watch(ctx, in)
	if ignoringPipe(err) == nil && in.exitCode && result.Dropped {
		return errFinding
	}
	return err
}

// watch shows what goes wrong until the end.
func watch(ctx context.Context, in *invocation) (session.Result, error) {
	var options session.Options
	var screen *screen
	t, err := attach(ctx, in, true, func(t *traced) {
		options = t.followed(&in.filter)
		screen = t.openScreen(options.Flows)
	})
	if t == nil {
		return session.Result{}, err
	}
	return t.run(ctx, t.stream(false), screen, options)
}
