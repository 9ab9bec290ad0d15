package cli

import (
	"io"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// lines returns the sink that --output asks for. totals names the interfaces to make room
// for.
func (in *invocation) lines(out io.Writer, histogram bool, totals *event.Totals) *output.Lines {
	if in.format == "json" {
		return output.NewJSON(out)
	}
	text := &output.Text{
		Width:     func() int { return in.columns(in.Stdout, output.DefaultWidth) },
		Whole:     !isTerminal(in.Stdout),
		Color:     in.coloured(in.color, in.Stdout),
		Blocks:    in.blocks(),
		Stacks:    in.verbose || in.stack,
		Histogram: histogram,
	}
	for i := range totals.Interfaces {
		text.WidenTo(totals.Interfaces[i].Name)
	}
	return output.NewText(out, text)
}

// console returns standard error, with a status line where it is a terminal
// that can erase a line.
func (in *invocation) console() *output.Console {
	if !isTerminal(in.Stderr) || in.Getenv("TERM") == "dumb" {
		return output.NewConsole(in.Stderr, nil)
	}
	return output.NewConsole(in.Stderr, func() int { return in.columns(in.Stderr, output.DefaultWidth) })
}
