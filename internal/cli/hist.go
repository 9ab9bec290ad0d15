package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/event"
	"xentrace/internal/session"
)

const histDuration = 10 * time.Second

func (a *app) histCommand() *cobra.Command {
	o := a.newTracing()
	o.duration = histDuration
	c := &cobra.Command{
		Use: "hist [flags]", Short: "Draw a histogram of slots per packet",
		Long: `Counts in the kernel how many slots each packet needs, then draws the histogram
with the slot limit and prints totals.`,
		Args: none,
		Example: `  xentrace hist                      10 seconds of every Xen interface
  xentrace hist -i eth0 -d 1m        one minute of eth0
  xentrace hist -i wlan0 -o json     what this traffic would need on Xen`,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := o.hist(c.Context())
			return err
		},
	}
	o.flags(c)
	o.recording.flags(c)
	return c
}

// hist counts until the end and returns the counts.
func (t *tracing) hist(ctx context.Context) (event.Totals, error) {
	attached, err := attach(ctx, t, false, nil)
	if attached == nil {
		return event.Totals{}, t.neverAttached(ctx, true, err)
	}
	result, err := attached.run(ctx, attached.stream(true), nil, session.Options{})
	return result.Totals, err
}
