package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/fix"
	"xentrace/internal/output"
	"xentrace/internal/trace"
)

type fixOptions struct {
	*app
	writing
	interfaces []string
	apply      bool
	revert     bool
	steps      []string
	persist    string
	force      bool
	watch      time.Duration
	watchGiven bool
	noProbe    bool
	state      string
}

func (a *app) fixCommand() *cobra.Command {
	o := &fixOptions{app: a, writing: newWriting(), watch: 5 * time.Second, state: fix.DefaultState}
	c := &cobra.Command{
		Use: "fix [flags]", Short: "Plan, apply or revert the settings that stop drops",
		Long: `Prints a plan: steps with command, effect and cost. Nothing changes without
--apply, which carries out all steps or none, reads values back, watches for
drops before and after, and probes each interface's default gateway. --revert
restores what was there before the first --apply. A step that does harm here is
refused. Exits 1 if a step is refused, or if drops continue.

Steps: ` + wrapped(stepNames(), 8) + ".",
		Args: none,
		Example: `  sudo xentrace fix                                 the plan
  sudo xentrace fix --apply --persist systemd       apply; survives a reboot
  sudo xentrace fix --step single-pages --apply     one step
  sudo xentrace fix --revert`,
		RunE: func(c *cobra.Command, _ []string) error {
			o.watchGiven = c.Flags().Changed("watch")
			return o.run(c.Context())
		},
	}
	interfaceFlag(c, &o.interfaces, "interface in this network namespace; without it, every xen-netfront interface")
	toggle(c, &o.apply, "apply", "", "carry out the plan (root)")
	toggle(c, &o.revert, "revert", "", "restore what was there before the first --apply (root)")
	steps, _ := fix.Names()
	list(c, &o.steps, "step", "", "NAME", "plan only this step, needed or not", fixed(steps...), func(text string) (string, error) { return text, fix.CheckName(text) })
	word(c, &o.persist, "persist", "", "HOW", "make the changes survive a reboot", persistWords()...)
	toggle(c, &o.force, "force", "", "also take refused steps; with --revert, remove files changed by hand")
	parsed(c, &o.watch, "watch", "", "TIME", o.watch.String(), "with --apply, watch this long before and after; 0: neither watch nor probe", parseDuration)
	toggle(c, &o.noProbe, "no-probe", "", "with --apply, send no datagram to the default gateway")
	path(c, &o.state, "state", "", "file with the values to restore")
	o.writing.flags(c, "")
	return c
}

func stepNames() string {
	names, _ := fix.Names()
	return strings.Join(names, ", ")
}

func persistWords() []string {
	var words []string
	for _, p := range fix.Persistences() {
		words = append(words, string(p))
	}
	return words
}

func (o *fixOptions) run(ctx context.Context) error {
	if o.apply && o.revert {
		return usageError{errors.New("--apply and --revert exclude each other")}
	}
	if o.revert && (len(o.steps) > 0 || o.persist != "" || len(o.interfaces) > 0) {
		return usageError{errors.New("--revert restores everything in the state file; drop --interface, --step and --persist")}
	}
	switch {
	case !o.apply && (o.watchGiven || o.noProbe):
		return usageError{errors.New("--watch and --no-probe need --apply; without it nothing is watched or sent")}
	case !o.apply && !o.revert && o.force:
		return usageError{errors.New("--force needs --apply or --revert")}
	}
	f := &fixing{fixOptions: o, lines: o.reportSink(&o.writing, false, false)}
	f.fixer = &fix.Fixer{State: o.state, Root: o.Root, Emit: f.report}
	if o.apply || o.revert {
		machine, err := o.Changeable()
		if err != nil {
			return err
		}
		f.fixer.Machine = machine
	}
	var err error
	switch {
	case o.revert:
		err = f.revertAll(ctx)
	case o.apply:
		err = f.applyPlan(ctx)
	default:
		err = f.showPlan(ctx)
	}
	if errors.As(err, new(*fix.StateError)) {
		err = usageError{err}
	}
	return errors.Join(err, f.broken)
}

type fixing struct {
	*fixOptions
	lines  *output.Lines
	fixer  *fix.Fixer
	broken error // standard output's
}

func (f *fixing) report(step event.FixStep) {
	if f.broken == nil {
		f.broken = f.lines.Emit(&step)
	}
}

// say writes a paragraph, in text only.
func (f *fixing) say(format string, args ...any) {
	if !f.json() && f.broken == nil {
		f.broken = f.print(output.Printable(strings.TrimSuffix(output.Paragraph(fmt.Sprintf(format, args...), 0, f.columns(f.Stdout, reportWidth)), "\n")) + "\n")
	}
}

func (f *fixing) plan(ctx context.Context) (*fix.Plan, error) {
	source, err := f.Machine()
	if err != nil {
		return nil, err
	}
	machine, err := check.Read(ctx, source, f.interfaces)
	if err != nil {
		return nil, err
	}
	plan, err := fix.NewPlan(machine, check.Judge(machine), fix.Choice{Steps: f.steps, Force: f.force})
	if err != nil {
		return nil, err
	}
	return plan, examined(plan)
}

// examined is an error if the plan is empty because no interface was examined.
func examined(plan *fix.Plan) error {
	others := plan.OtherDrivers()
	if len(plan.Steps) > 0 || len(others) < len(plan.Identities()) {
		return nil
	}
	if len(others) > 0 {
		return fmt.Errorf("%w: %s: not driven by xen-netfront, so nothing was examined", trace.ErrCannotRun, strings.Join(others, ", "))
	}
	const none = "no xen-netfront interface found, so nothing was examined"
	if plan.Unseen != "" {
		return fmt.Errorf("%w: %s; other network namespaces were not checked: %s", trace.ErrCannotRun, none, plan.Unseen)
	}
	return fmt.Errorf("%w: %s; run it on a Xen guest", trace.ErrCannotRun, none)
}

// planned makes the plan and shows its steps and how many files it would write.
func (f *fixing) planned(ctx context.Context) (plan *fix.Plan, files int, err error) {
	if plan, err = f.plan(ctx); err != nil {
		return nil, 0, err
	}
	if files, err = f.showSteps(plan); err != nil {
		return nil, 0, err
	}
	f.sayRest(plan)
	return plan, files, nil
}

func (f *fixing) showPlan(ctx context.Context) error {
	plan, files, err := f.planned(ctx)
	if err != nil {
		return err
	}
	switch doable := len(plan.Doable()); {
	case doable+files > 0:
		f.say("Nothing is changed yet. --apply carries this out; --revert undoes it later.")
	case len(plan.Steps) == 0:
		f.sayNothing(plan)
	}
	if plan.Refused() {
		return errFinding
	}
	return nil
}

// showSteps reports every step, and of the files; it returns how many there are.
func (f *fixing) showSteps(plan *fix.Plan) (files int, err error) {
	preview, err := f.fixer.Preview(plan, fix.Persistence(f.persist))
	if err != nil {
		return 0, err
	}
	for _, step := range append(plan.Steps, preview...) {
		f.report(step.FixStep)
	}
	return len(preview), nil
}

// sayRest reports what the plan is not about.
func (f *fixing) sayRest(plan *fix.Plan) {
	if others := plan.OtherDrivers(); len(others) > 0 && len(f.steps) == 0 {
		f.say("Not examined, since xen-netfront does not drive it: %s.", strings.Join(others, ", "))
	}
	if plan.Unseen != "" {
		f.say("Other network namespaces were not checked: %s.", plan.Unseen)
	}
	if plan.Unknown != "" {
		f.say("%s", plan.Unknown)
	}
	if len(plan.Left) > 0 {
		f.say("xentrace check also found: %s. fix does not change these.", strings.Join(plan.Left, ", "))
	}
}

func (f *fixing) sayNothing(plan *fix.Plan) {
	switch {
	case plan.Unknown != "":
		f.say("Nothing is planned.")
	case len(plan.Steps) > 0:
		f.say("Only manual steps are left.")
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
	if errors.Is(err, fix.ErrRefused) {
		f.say("Not everything was restored. The state file stays for another --revert.")
		return errFinding
	}
	if err != nil {
		return err
	}
	f.say("Everything is restored to before the first --apply.")
	return nil
}

func (f *fixing) applyPlan(ctx context.Context) error {
	plan, files, err := f.planned(ctx)
	if err != nil {
		return err
	}
	if plan.Refused() {
		f.say("Nothing was changed: a step is refused.")
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
	if ctx.Err() != nil {
		f.say("Interrupted. The changes stay.")
	}
	f.say("Undo with: %s", f.fixer.RevertCommand())
	if ctx.Err() == nil && !ended || lost {
		return errFinding
	}
	return nil
}

// unchanged reports a run that was undone. An interrupt is no failure.
func (f *fixing) unchanged(err error) error {
	if errors.Is(err, fix.ErrNotUndone) {
		return err
	}
	f.say("All changes were undone.")
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
