// Package fix mends what check found: it makes a plan of the findings, carries it
// out all or nothing, and puts everything back.
//
// A [Plan] looks at nothing but a check's facts and findings. A [Fixer] changes
// the machine. Before its first change it writes down everything that it is going
// to change as it was, in one file; [Fixer.Revert] needs nothing else, whenever the
// work was cut off, so nothing has to be written down between two changes.
package fix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
	"xentrace/internal/trace"
)

// A Fixer changes a machine and puts it back.
type Fixer struct {
	Machine Machine
	State   string              // path of the state file
	Root    string              // of the files that make changes last; "" being /
	Emit    func(event.FixStep) // called with each step once its status is known

	between func()    // see disk
	applied *applying // by the last Apply; nil if it changed nothing
}

// ErrNotUndone means that something failed, and that not all of what had been done
// before could be taken back. The state file is there still.
var ErrNotUndone = errors.New("not everything could be undone")

// RevertCommand is the command line that puts everything back.
func (f *Fixer) RevertCommand() string {
	command := "xentrace fix --revert"
	if f.State != DefaultState {
		command += " --state " + remedy.Quote(f.State)
	}
	return command
}

type task struct {
	step     Step
	device   Device          // nil for the machine
	features map[string]bool // that this interface has
}

// Apply carries out the steps of the plan that are planned, all or nothing, reads
// each value back, and writes the files that persist asks for. If something fails,
// or the context ends, everything is as it was before, and the error reports what
// failed. Errors that wrap trace.ErrCannotRun name what this machine does not
// allow.
//
// What was there before the first of several runs stays written down.
func (f *Fixer) Apply(ctx context.Context, plan *Plan, persist Persistence) (err error) {
	held, err := f.store().lock()
	if err != nil {
		return explain(err)
	}
	defer func() { err = errors.Join(err, held.release()) }()
	first, err := f.store().load()
	if err != nil {
		return err
	}
	run := &applying{Fixer: f, first: first, next: first.clone(), before: first.clone()}
	*run.before = State{Version: stateVersion}
	if err := run.prepare(ctx, plan.Doable(), persist); err != nil {
		return explain(err)
	}
	if len(run.tasks)+len(run.files) == 0 {
		return nil
	}
	if err := run.check(); err != nil {
		return explain(err)
	}
	run.next.Written, run.next.Machine = time.Now(), f.disk().machineID()
	if err := f.store().save(run.next); err != nil {
		return explain(err)
	}
	if err := run.do(ctx); err != nil {
		return errors.Join(explain(err), run.undo(context.WithoutCancel(ctx)))
	}
	f.applied = run
	return nil
}

// Undo takes back what the last Apply changed, and leaves what others before it changed. If
// another run of fix came in between, or something fails, the error wraps [ErrNotUndone].
func (f *Fixer) Undo(ctx context.Context) (err error) {
	run := f.applied
	if run == nil {
		return nil
	}
	held, err := f.store().lock()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotUndone, explain(err))
	}
	defer func() { err = errors.Join(err, held.release()) }()
	now, err := f.store().load()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotUndone, err)
	case now == nil || !now.Written.Equal(run.next.Written):
		return fmt.Errorf("%w: another run of fix has changed the state file since", ErrNotUndone)
	}
	if err := run.undo(ctx); err != nil {
		return err
	}
	f.applied = nil
	return nil
}

func (f *Fixer) disk() *disk   { return &disk{root: f.Root, between: f.between} }
func (f *Fixer) store() *store { return &store{path: f.State, disk: f.disk()} }

type applying struct {
	*Fixer
	first  *State // as the state file has it; nil if there is none
	before *State // what this run finds
	next   *State // first with what this run adds
	tasks  []task
	files  []File
}

func (a *applying) prepare(ctx context.Context, steps []Step, persist Persistence) error {
	for _, step := range steps {
		t := task{step: step}
		var err error
		if step.change.sysctl != "" {
			err = a.noteSysctl(&step.change)
		} else {
			err = a.noteInterface(ctx, &t)
		}
		if err != nil {
			return err
		}
		a.tasks = append(a.tasks, t)
	}
	var err error
	a.files, err = a.render(persist, a.next)
	return err
}

func (a *applying) noteSysctl(c *change) error {
	value, err := a.Machine.Sysctl(c.sysctl)
	if err != nil {
		return err
	}
	noted := SysctlState{Name: c.sysctl, Was: value, Set: c.value, Boot: a.disk().bootID()}
	a.before.Sysctls = append(a.before.Sysctls, noted)
	if known := a.next.sysctl(c.sysctl); known != nil {
		known.Set, known.Boot = noted.Set, noted.Boot
		return nil
	}
	a.next.Sysctls = append(a.next.Sysctls, noted)
	return nil
}

func (a *applying) noteInterface(ctx context.Context, t *task) error {
	var err error
	t.device, err = a.Machine.Find(ctx, t.step.identity)
	if err != nil {
		return err
	}
	noted := InterfaceState{Identity: t.device.Identity(), SetFeatures: map[string]bool{}, Boot: a.disk().bootID()}
	if noted.MTU, err = t.device.MTU(); err != nil {
		return err
	}
	if noted.Features, err = t.device.Features(); err != nil {
		return err
	}
	if a.before.iface(noted.Identity) == nil {
		a.before.Interfaces = append(a.before.Interfaces, noted)
	}
	known := a.next.iface(noted.Identity)
	if known == nil {
		a.next.Interfaces = append(a.next.Interfaces, noted)
		known = &a.next.Interfaces[len(a.next.Interfaces)-1]
	}
	known.Identity, known.Boot = noted.Identity, noted.Boot
	if t.step.change.mtu != 0 {
		known.SetMTU = t.step.change.mtu
		return nil
	}
	if t.features = changeable(noted.Features, &t.step.change); len(t.features) == 0 {
		return fmt.Errorf("step %s: interface %s has no such feature that can be changed", t.step.Name, netdev.Interface{Name: t.step.Interface})
	}
	maps.Copy(known.SetFeatures, t.features)
	return nil
}

func changeable(all map[string]netdev.Feature, c *change) map[string]bool {
	on := map[string]bool{}
	for _, name := range c.features {
		if all[name].Changeable {
			on[name] = c.on
		}
	}
	return on
}

// check finds out, by changing nothing, whether the changes will be allowed.
func (a *applying) check() error {
	for _, s := range a.before.Sysctls {
		if err := a.Machine.SetSysctl(s.Name, s.Was); err != nil {
			return err
		}
	}
	for _, t := range a.tasks {
		if t.device != nil {
			if err := t.device.SetFeatures(nil); err != nil {
				return err
			}
		}
	}
	return a.checkFiles(a.files)
}

func (a *applying) do(ctx context.Context) error {
	for n := range a.tasks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.change(&a.tasks[n]); err != nil {
			return a.failed(a.tasks[n].step, err)
		}
		a.emit(a.tasks[n].step, event.Applied, "")
	}
	for n := range a.tasks {
		if err := a.verify(&a.tasks[n]); err != nil {
			return a.failed(a.tasks[n].step, err)
		}
		a.emit(a.tasks[n].step, event.Verified, "Read back and confirmed.")
	}
	for n := range a.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		step := a.files[n].step()
		if err := a.writeFile(&a.files[n]); err != nil {
			return a.failed(step, err)
		}
		a.emit(step, event.Applied, "")
	}
	return nil
}

func (a *applying) change(t *task) error {
	switch c := &t.step.change; {
	case c.sysctl != "":
		return a.Machine.SetSysctl(c.sysctl, c.value)
	case c.mtu != 0:
		return t.device.SetMTU(c.mtu)
	default:
		return t.device.SetFeatures(t.features)
	}
}

func (a *applying) verify(t *task) error {
	switch c := &t.step.change; {
	case c.sysctl != "":
		value, err := a.Machine.Sysctl(c.sysctl)
		if err == nil && value != c.value {
			err = fmt.Errorf("%s is %s and should be %s", c.sysctl, value, c.value)
		}
		return err
	case c.mtu != 0:
		mtu, err := t.device.MTU()
		if err == nil && mtu != c.mtu {
			err = fmt.Errorf("the MTU is %d and should be %d", mtu, c.mtu)
		}
		return err
	}
	all, err := t.device.Features()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(t.features)) {
		if on := t.features[name]; all[name].Active != on {
			return fmt.Errorf("%s is %s although it was asked for the other: the driver or its backend decides otherwise", name, onOff(all[name].Active))
		}
	}
	return nil
}

func (a *applying) undo(ctx context.Context) error {
	var failures []error
	for n := range a.files {
		failures = append(failures, a.unwriteFile(&a.files[n]))
	}
	for _, file := range slices.Backward(a.next.Files) {
		if file.Directory && (a.first == nil || !slices.Contains(a.first.Files, file)) {
			failures = append(failures, a.removeFile(file, false))
		}
	}
	failures = append(failures, (&reverting{Fixer: a.Fixer, boot: a.disk().bootID()}).restore(ctx, a.before))
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("%w, %s tries again: %w", ErrNotUndone, a.RevertCommand(), err)
	}
	if a.first == nil {
		return a.store().remove()
	}
	return a.store().save(a.first)
}

// Counters returns what was sent and dropped by the interfaces' own counters, all
// in all.
func (f *Fixer) Counters(ctx context.Context, interfaces []Identity) (sent, dropped uint64, err error) {
	for _, identity := range interfaces {
		found, err := f.Machine.Find(ctx, identity)
		if err != nil {
			return 0, 0, err
		}
		counters, err := found.Counters()
		if err != nil {
			return 0, 0, err
		}
		sent, dropped = sent+counters.TxPackets, dropped+counters.TxDropped
	}
	return sent, dropped, nil
}

// SinglePages reports whether new page fragments are single pages by now, as far as the
// setting is to be read.
func (f *Fixer) SinglePages() bool {
	value, err := f.Machine.Sysctl(HighOrder)
	return err == nil && value == "1"
}

// failed reports a step that failed and returns the error.
func (f *Fixer) failed(step Step, err error) error {
	f.emit(step, event.Failed, sentence(explain(err).Error()))
	return fmt.Errorf("step %s: %w", step.Name, err)
}

func (f *Fixer) emit(step Step, status event.FixStatus, message string) {
	step.Status, step.Message = status, message
	if step.Path != "" && status != event.Planned {
		step.Content = "" // it was shown
	}
	f.Emit(step.FixStep)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (f *Fixer) directoryOf(path string) string { return filepath.Dir(f.disk().path(path)) }

// explain adds to an error what can be done about it. What the machine does not
// allow wraps trace.ErrCannotRun.
func explain(err error) error {
	switch {
	case err == nil, errors.Is(err, trace.ErrCannotRun), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w: in a container, run xentrace fix on the machine itself or start the container with --privileged", trace.ErrCannotRun, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w; run with sudo; in a container, run it on the machine itself", trace.ErrCannotRun, err)
	case errors.Is(err, netdev.ErrNotFound), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
	}
	return err
}

// sentence makes one of an error's text.
func sentence(text string) string {
	text = strings.TrimPrefix(text, trace.ErrCannotRun.Error()+": ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
