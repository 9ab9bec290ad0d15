package cli

import (
	"context"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/trace"
)

// A command is one of xentrace's. The table of them is all that help,
// completion and manual pages are made of.
type command struct {
	name      string
	arguments string          // as shown in the usage line
	words     func() []string // the values an argument may have
	minArgs   int
	maxArgs   int
	short     string
	long      []string // paragraphs
	flags     []*flag
	duration  time.Duration // default of --duration
	examples  []example
	run       func(context.Context, *invocation) error
}

type example struct{ command, does string }

func (c *command) allFlags() []*flag { return append(c.flags[:len(c.flags):len(c.flags)], helpFlag()) }

var (
	formats  = []string{"text", "json"}
	backends = []string{"auto", "fentry", "kprobe", "tracepoint"}
	colours  = []string{"auto", "always", "never"}

	dropsWords = []string{string(event.DropsDriver), string(event.DropsAll)}
	dropsHooks = []string{string(trace.DropsTracepoint), string(trace.DropsKprobe)}
)

func helpFlag() *flag {
	return &flag{name: "help", short: "h", usage: "show this help",
		bind: switchValue(func(s *settings) *bool { return &s.help })}
}

func outputFlag() *flag {
	return &flag{name: "output", short: "o", value: "FORMAT", words: formats, initial: "text",
		usage: "what to write, json being one object a line",
		bind:  wordValue(formats, func(s *settings) *string { return &s.format })}
}

func colorFlag() *flag {
	return &flag{name: "color", value: "WHEN", words: colours, usage: "whether to write text in colours, auto being on a terminal", initial: "auto",
		bind: wordValue(colours, func(s *settings) *string { return &s.color })}
}

func verboseFlag() *flag {
	return &flag{name: "verbose", short: "v", usage: "tell more on standard error, such as why a better backend did not attach",
		bind: switchValue(func(s *settings) *bool { return &s.verbose })}
}

// traceFlags are those of every command that traces; they differ in how long
// they run if nothing is said.
func traceFlags(duration string) []*flag {
	return []*flag{
		{name: "interface", short: "i", value: "NAME", completes: interfaceNames,
			usage:   "this interface of the caller's network namespace, any driver; may be given again for more",
			initial: "every interface driven by xen-netfront in any namespace, those that appear later too",
			bind:    interfaceValue},
		{name: "wait", usage: "wait for an interface to appear instead of failing",
			bind: switchValue(func(s *settings) *bool { return &s.wait })},
		{name: "duration", short: "d", value: "TIME", usage: "stop after this time, such as 30s; 0 is never", initial: duration,
			bind: durationValue},
		{name: "backend", value: "NAME", words: backends, usage: "how to attach, auto being the best that really does; fentry keeps the driver's module from being unloaded", initial: "auto",
			bind: wordValue(backends, func(s *settings) *string { return &s.backend })},
		{name: "rejected", usage: "tell of packets that the backend refused, too: the driver counts them as sent",
			bind: switchValue(func(s *settings) *bool { return &s.rejected })},
		outputFlag(),
		colorFlag(),
		{name: "ready-file", value: "PATH", completes: fileNames, usage: "create this file once every hook is attached",
			bind: pathValue(func(s *settings) *string { return &s.readyFile })},
		verboseFlag(),
	}
}

// dropsFlags choose the drops that are told of.
func dropsFlags() []*flag {
	return []*flag{
		{name: "drops", value: "WHICH", words: dropsWords, initial: string(event.DropsDriver),
			usage: "the packets to tell of that were dropped, all being also those that the kernel dropped on their way to the interface",
			bind:  wordValue(dropsWords, func(s *settings) *string { return &s.drops })},
		{name: "drops-hook", value: "NAME", words: dropsHooks, initial: string(trace.DropsTracepoint),
			usage: "how --drops all notices a drop",
			bind:  wordValue(dropsHooks, func(s *settings) *string { return &s.dropsHook })},
	}
}

// liveFlag has watch show what it tells on a whole screen.
func liveFlag() *flag {
	return &flag{name: "live", usage: "show counts, the worst flows and the last events on the whole screen of a terminal",
		bind: switchValue(func(s *settings) *bool { return &s.live })}
}

func stackFlag() *flag {
	return &flag{name: "stack", usage: "tell what call sent each packet that went wrong: the kernel's functions and the program's",
		bind: switchValue(func(s *settings) *bool { return &s.stack })}
}

// recordFlags are those of commands that read records.
func recordFlags() []*flag {
	return []*flag{
		{name: "count", value: "N", usage: "stop after this many packets that went wrong and pass the filters", bind: countValue},
		{name: "exit-code", usage: "exit with status 1 if a packet was dropped that --drops asks for and that passes the filters",
			bind: switchValue(func(s *settings) *bool { return &s.exitCode })},
		{name: "ring-size", value: "BYTES", usage: "size of the ring buffer for events: a power of two, KiB or MiB behind it if you like", initial: "4MiB",
			bind: ringValue},
	}
}

// commands returns the table.
func commands() []*command {
	return []*command{
		watchCommand(), histCommand(), checkCommand(), probeCommand(), fixCommand(), congestionCommand(), demoCommand(), versionCommand(), helpCommand(), completionCommand(), manCommand(),
	}
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}
