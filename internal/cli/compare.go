package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"xentrace/internal/report"
)

type compareOptions struct {
	recorded
	writing
	out string
}

func (a *app) compareCommand() *cobra.Command {
	o := &compareOptions{recorded: recorded{app: a}, writing: newWriting()}
	c := &cobra.Command{
		Use: "compare A B [flags]", Short: "Compare two recordings: rates, drops, slots, stalls, machines",
		Long: `Prints two recordings side by side: rates, drops by cause, slots per packet,
stalls, and what of the machines differs. A star marks a rate that differs by
more than noise: the 95 % interval of the ratio excludes 1, and the counts are
more than 5 events from what one rate for both predicts.`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) < 2:
				return usageError{fmt.Errorf("missing argument %s", []string{"A", "B"}[len(args)])}
			case len(args) > 2:
				return none(nil, args[2:])
			}
			return nil
		},
		Example: `  xentrace compare before.jsonl after.jsonl
  xentrace compare /srv/web-1 /srv/web-2 --since 24h -w compare.html`,
		RunE: func(c *cobra.Command, args []string) error {
			o.setCommand(c, args)
			return o.run(c.Context(), args)
		},
	}
	path(c, &o.out, "write", "w", "write an HTML page to this file instead")
	o.recorded.flags(c)
	word(c, &o.format, "output", "o", "FORMAT", "output format", "text", "json")
	return c
}

func (o *compareOptions) run(ctx context.Context, paths []string) error {
	if o.out != "" && o.json() {
		return usageError{errors.New("--write writes HTML; drop it or --output json")}
	}
	redactor := o.redactor() // of both: one name is one name
	var sides [2]*report.Collector
	var options report.Options
	names := paths
	if o.redact {
		names = []string{"recording 1", "recording 2"}
	}
	for i, path := range paths {
		collector, read, err := o.collect(ctx, redactor, path)
		if err != nil {
			return err
		}
		sides[i] = collector
		options.Files = append(options.Files, read.Files...)
		options.Damage = append(options.Damage, read.Damage...)
		for _, run := range read.Unfinished {
			options.Unfinished = append(options.Unfinished, names[i]+": "+run)
		}
		options.Commands, options.Version, options.Redacted = read.Commands, read.Version, read.Redacted
	}
	if err := o.write(report.Compare(sides[0], sides[1], names[0], names[1]), options); err != nil {
		return err
	}
	for _, run := range options.Unfinished {
		o.recorded.console().Say(run)
	}
	for _, damage := range options.Damage {
		o.recorded.console().Say(damage)
	}
	if len(options.Damage) > 0 {
		return errFinding
	}
	return nil
}

func (o *compareOptions) write(c *report.Comparison, options report.Options) error {
	switch {
	case o.json():
		return o.print(string(c.AppendJSON(nil)))
	case o.out == "":
		return o.print(string(c.AppendText(nil)))
	}
	page, err := c.Page(options)
	if err != nil {
		return err
	}
	file, err := o.createPage(o.out, false)
	if err != nil {
		return err
	}
	defer file.discard()
	return file.finish(page)
}
