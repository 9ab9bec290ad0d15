package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/fix"
	"xentrace/internal/output"
	"xentrace/internal/trace"
)

func fixCommand() *command {
	return &command{
		name:  "fix",
		short: "plan, make and take back the changes that end this machine's losses",
		long: []string{
			"Makes a plan of what check finds: steps in the order in which they are done, each with its effect, its cost and the command that one would type. Nothing is changed unless --apply is given.",
			"With --apply the steps are carried out, all or nothing: what was there is written down first, if a step fails the earlier ones are undone, every value is read back, and the interfaces are watched before and after, to tell whether drops have ended. After the change a probe, the datagram of many slots that the command probe sends, goes out of each changed interface to its own default gateway, and to no other address. What was there before the first of several runs stays written down until --revert puts it all back.",
			"With --step only the steps named are planned, whether a finding calls for them or not. A step that does harm on this machine is refused, with the reason; --force does it all the same. The steps: " + stepNames() + ".",
			"With --persist the files are shown that make the changes last over a restart, and with --apply they are written. A file that is there and was not written by xentrace is never overwritten.",
			"The exit status is 1 if a step was refused, or if after --apply packets are still dropped or the probe is lost.",
		},
		flags: []*flag{
			{name: "interface", short: "i", value: "NAME", completes: interfaceNames,
				usage:   "this interface of the caller's network namespace; may be given again for more",
				initial: "every interface driven by xen-netfront in any namespace",
				bind:    interfaceValue},
			{name: "apply", usage: "carry out the plan (needs root)", bind: switchValue(func(s *settings) *bool { return &s.apply })},
			{name: "revert", usage: "put back what was there before the first --apply, and remove the files it wrote (needs root)",
				bind: switchValue(func(s *settings) *bool { return &s.revert })},
			{name: "step", value: "NAME", usage: "plan this step only; may be given again for more", bind: stepValue},
			{name: "persist", value: "HOW", words: persistWords(), usage: "what makes the changes last over a restart",
				bind: wordValue(persistWords(), func(s *settings) *string { return &s.persist })},
			{name: "force", usage: "do what does harm here; with --revert, remove files that were changed by hand since",
				bind: switchValue(func(s *settings) *bool { return &s.force })},
			{name: "watch", value: "TIME", initial: "5s", usage: "with --apply, watch for drops this long before and at least this long after; 0 is not at all", bind: watchValue},
			{name: "no-probe", usage: "with --apply, send no datagram to the default gateway; --watch 0 does the same", bind: switchValue(func(s *settings) *bool { return &s.noProbe })},
			{name: "state", value: "PATH", completes: fileNames, initial: fix.DefaultState, usage: "the file in which is written what was there",
				bind: pathValue(func(s *settings) *string { return &s.state })},
			outputFlag(),
			colorFlag(),
		},
		examples: []example{
			{"sudo xentrace fix", "what there is to do, and what it costs"},
			{"sudo xentrace fix --apply --persist systemd", "do it, for good"},
			{"sudo xentrace fix --revert", "take it all back"},
			{"sudo xentrace fix --step single-pages --apply", "one step, whatever check finds"},
		},
		run: runFix,
	}
}

// stepNames lists the steps for help.
func stepNames() string {
	names, does := fix.Names()
	var parts []string
	for _, name := range names {
		parts = append(parts, name+" ("+does[name]+")")
	}
	return strings.Join(parts, ", ")
}

func persistWords() []string {
	var words []string
	for _, p := range fix.Persistences() {
		words = append(words, string(p))
	}
	return words
}

func stepValue(s *settings) pflag.Value {
	return &value{kind: "name", set: func(text string) error {
		if err := fix.CheckName(text); err != nil {
			return err
		}
		if !slices.Contains(s.steps, text) {
			s.steps = append(s.steps, text)
		}
		return nil
	}}
}

func watchValue(s *settings) pflag.Value {
	return &value{kind: "duration", set: func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return errors.New("not a duration such as 5s")
		}
		s.watch = d
		return nil
	}}
}

func runFix(ctx context.Context, in *invocation) error {
	if in.apply && in.revert {
		return usageError{errors.New("fix: --apply and --revert are opposites; give one of them")}
	}
	if in.revert && (len(in.steps) > 0 || in.persist != "" || len(in.interfaces) > 0) {
		return usageError{errors.New("fix: --revert puts back all that the state file tells of: it goes with none of --interface, --step and --persist")}
	}
	f := &fixing{invocation: in, lines: in.reportLines()}
	f.fixer = &fix.Fixer{State: in.state, Root: in.Root, Emit: f.tell}
	if in.apply || in.revert {
		machine, err := in.Changeable()
		if err != nil {
			return err
		}
		f.fixer.Machine = machine
	}
	var err error
	switch {
	case in.revert:
		err = f.revertAll(ctx)
	case in.apply:
		err = f.applyPlan(ctx)
	default:
		err = f.showPlan(ctx)
	}
	return errors.Join(err, f.broken)
}

// fixing is one run of fix.
type fixing struct {
	*invocation
	lines  *output.Lines
	fixer  *fix.Fixer
	broken error // standard output's
}

// tell writes what became of a step.
func (f *fixing) tell(step event.FixStep) {
	if f.broken == nil {
		f.broken = f.lines.Emit(&step)
	}
}

// say writes a paragraph, in text only.
func (f *fixing) say(format string, args ...any) {
	if f.format != "json" && f.broken == nil {
		f.broken = f.print(output.Printable(strings.TrimSuffix(output.Paragraph(fmt.Sprintf(format, args...), 0, f.columns(f.Stdout, reportWidth)), "\n")) + "\n")
	}
}

// plan looks at the machine.
func (f *fixing) plan(ctx context.Context) (*fix.Plan, error) {
	source, err := f.Machine()
	if err != nil {
		return nil, err
	}
	machine, err := check.Read(ctx, source, f.interfaces)
	if err != nil {
		return nil, err
	}
	return fix.NewPlan(machine, check.Judge(machine), fix.Choice{Steps: f.steps, Force: f.force})
}

func (f *fixing) showPlan(ctx context.Context) error {
	plan, err := f.plan(ctx)
	if err != nil {
		return err
	}
	files, err := f.showSteps(plan)
	if err != nil {
		return err
	}
	f.sayRest(plan)
	switch doable := len(plan.Doable()); {
	case doable+files > 0:
		f.say("Nothing is changed yet: --apply carries this out, --revert takes it back later.")
	case len(plan.Steps) == 0:
		f.sayNothing(plan)
	}
	if plan.Refused() {
		return errFinding
	}
	return nil
}

// showSteps tells of every step, and of the files; it returns how many there are.
func (f *fixing) showSteps(plan *fix.Plan) (files int, err error) {
	preview, err := f.fixer.Preview(plan, fix.Persistence(f.persist))
	if err != nil {
		return 0, err
	}
	for _, step := range append(plan.Steps, preview...) {
		f.tell(step.FixStep)
	}
	return len(preview), nil
}

// sayRest tells what the plan is not about.
func (f *fixing) sayRest(plan *fix.Plan) {
	if plan.Unknown != "" {
		f.say("%s", plan.Unknown)
	}
	if len(plan.Left) > 0 {
		f.say("xentrace check has more to say, about which nothing is done here: %s.", strings.Join(plan.Left, ", "))
	}
}

func (f *fixing) sayNothing(plan *fix.Plan) {
	switch {
	case plan.Unknown != "":
		f.say("Nothing is planned.")
	case len(plan.Steps) > 0:
		f.say("There is nothing to do here but what is left to you.")
	default:
		f.say("There is nothing to fix.")
	}
}

func (f *fixing) revertAll(ctx context.Context) error {
	err := f.fixer.Revert(context.WithoutCancel(ctx), f.force)
	if errors.Is(err, fix.ErrNothing) {
		f.say("There is nothing to revert: there is no %s.", output.Escape(f.state))
		return nil
	}
	if err != nil {
		return err
	}
	f.say("Everything is as it was before the first --apply.")
	return nil
}

func (f *fixing) applyPlan(ctx context.Context) error {
	plan, err := f.plan(ctx)
	if err != nil {
		return err
	}
	files, err := f.showSteps(plan)
	if err != nil {
		return err
	}
	f.sayRest(plan)
	if plan.Refused() {
		f.say("Nothing was changed, since a step is refused.")
		return errFinding
	}
	if len(plan.Doable())+files == 0 {
		f.sayNothing(plan)
		return nil
	}
	verifier := f.verifier()
	verifier.Attach(ctx, plan)
	defer verifier.Close()
	if err := verifier.Before(ctx); err != nil {
		return f.unchanged(err)
	}
	if err := f.fixer.Apply(ctx, plan, fix.Persistence(f.persist)); err != nil {
		return f.unchanged(err)
	}
	lost := verifier.Probes(ctx)
	ended := verifier.After(ctx)
	f.say("xentrace fix --revert takes it back.")
	if !ended || lost {
		return errFinding
	}
	return nil
}

// unchanged tells of a run that was undone. An interrupt is no failure.
func (f *fixing) unchanged(err error) error {
	if errors.Is(err, fix.ErrNotUndone) {
		return err
	}
	f.say("Nothing stays changed.")
	if errors.Is(err, context.Canceled) && !errors.Is(err, trace.ErrCannotRun) {
		return nil
	}
	return err
}

// verifier watches for drops before and after the changes.
func (f *fixing) verifier() *fix.Verifier {
	return &fix.Verifier{
		Fixer: f.fixer, Interfaces: f.interfaces, Watch: f.watch, NoProbe: f.noProbe, Say: f.say, Probe: f.Probe,
		Start: func(ctx context.Context, o trace.Options) (fix.Tracer, error) { return f.Start(ctx, o) },
	}
}
