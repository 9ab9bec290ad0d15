package cli

import (
	"io"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

func (t *tracing) lines(out io.Writer, histogram bool, totals *event.Totals) *output.Lines {
	if t.json() {
		return output.NewJSON(out)
	}
	text := &output.Text{
		Width:     func() int { return t.columns(t.Stdout, output.DefaultWidth) },
		Whole:     !isTerminal(t.Stdout),
		Color:     t.coloured(t.color, t.Stdout),
		Blocks:    t.blocks(),
		Stacks:    t.verbose || t.stack,
		Histogram: histogram,
	}
	for i := range totals.Interfaces {
		text.WidenTo(totals.Interfaces[i].Name)
	}
	return output.NewText(out, text)
}

// reportSink returns the sink of commands that report once. evidence is shown of findings that
// are OK too; short is the form that congestion --watch has.
func (s System) reportSink(w *writing, evidence, short bool) *output.Lines {
	if w.json() {
		return output.NewJSON(s.Stdout)
	}
	return output.NewText(s.Stdout, &output.Text{
		Width: func() int { return s.columns(s.Stdout, reportWidth) }, Color: s.coloured(w.color, s.Stdout),
		Blocks: s.blocks(), Evidence: evidence, Short: short,
	})
}

// console returns standard error, with a status line where it is a terminal that can erase a
// line.
func (s System) console() *output.Console {
	if !isTerminal(s.Stderr) || s.Getenv("TERM") == "dumb" {
		return output.NewConsole(s.Stderr, nil)
	}
	return output.NewConsole(s.Stderr, func() int { return s.columns(s.Stderr, output.DefaultWidth) })
}
