package cli

import (
	"context"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/session"
)

// histDuration is how long hist counts if nothing is said.
const histDuration = 10 * time.Second

func histCommand() *command {
	return &command{
		name:  "hist",
		short: "count slots per packet for a while and draw the histogram",
		long: []string{
			"Counts how many slots of the transmit ring each packet needs, then draws the histogram, with a line at the limit, and tells the totals. Everything is counted in the kernel; no record is made of any packet.",
			"It counts for 10 s if --duration does not say otherwise. An interrupt ends the counting early; a second one ends it without output.",
		},
		flags:    traceFlags("10s"),
		duration: histDuration,
		examples: []example{
			{"xentrace hist", "10 seconds of every Xen interface"},
			{"xentrace hist -i eth0 -d 1m", "one minute of eth0"},
			{"xentrace hist -i wlan0 -o json", "what this traffic would need on Xen, for a script"},
		},
		run: runHist,
	}
}

func runHist(ctx context.Context, in *invocation) error {
	_, err := hist(ctx, in)
	return err
}

// hist counts until the end and returns the counts.
func hist(ctx context.Context, in *invocation) (event.Totals, error) {
	t, err := attach(ctx, in, false, nil)
	if t == nil {
		return event.Totals{}, err
	}
	result, err := t.run(ctx, t.stream(true), nil, session.Options{})
	return result.Totals, err
}
