package fix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// ErrNothing is what Revert returns if there is no state file.
var ErrNothing = errors.New("nothing to revert")

// Revert puts back everything that the state file tells of, removes the files that
// were written, and then the state file. It may be called again whenever it was
// cut off or something failed: what failed is in the error, the rest is done.
//
// A file that was changed by hand since is only removed with force.
func (f *Fixer) Revert(ctx context.Context, force bool) (err error) {
	held, err := f.store().lock()
	if err != nil {
		return explain(err)
	}
	defer func() { err = errors.Join(err, held.release()) }()
	state, err := f.store().load()
	if err != nil {
		return err
	}
	if state == nil {
		// A run may have been cut off while it wrote its first state.
		return errors.Join(ErrNothing, f.store().remove())
	}
	var failures []error
	for _, file := range slices.Backward(state.Files) {
		failures = append(failures, f.removeFile(file, force))
	}
	failures = append(failures, f.restore(ctx, state))
	if err := errors.Join(failures...); err != nil {
		return explain(fmt.Errorf("the state file stays, for another --revert: %w", err))
	}
	return explain(f.store().remove())
}

func (f *Fixer) restore(ctx context.Context, s *State) error {
	var failures []error
	for n := range s.Interfaces {
		failures = append(failures, f.restoreInterface(ctx, &s.Interfaces[n]))
	}
	for n := range s.Sysctls {
		failures = append(failures, f.restoreSysctl(&s.Sysctls[n]))
	}
	return errors.Join(failures...)
}

func (f *Fixer) restoreSysctl(s *SysctlState) error {
	step := Step{FixStep: event.FixStep{Name: "restore-sysctl", Command: fmt.Sprintf("sysctl -w %s=%s", s.Name, s.Was)}}
	set := func(value string) error { return f.Machine.SetSysctl(s.Name, value) }
	value, err := restored(func() (string, error) { return f.Machine.Sysctl(s.Name) }, set, s.Was)
	if err == nil && value != s.Was {
		err = fmt.Errorf("%s is %s and was %s", s.Name, value, s.Was)
	}
	if err != nil {
		return f.failed(step, err)
	}
	f.tell(step, event.Reverted, fmt.Sprintf("%s is %s, as it was.", s.Name, s.Was))
	return nil
}

// restoreInterface restores the features and then the MTU: scatter-gather off takes
// the MTU of xen-netfront down, and a large MTU needs it on.
func (f *Fixer) restoreInterface(ctx context.Context, s *InterfaceState) error {
	step := Step{FixStep: event.FixStep{Name: "restore-interface", Interface: s.Identity.Name, NetNS: s.Identity.NetNS}}
	device, err := f.Machine.Find(ctx, s.Identity)
	if errors.Is(err, netdev.ErrNotFound) {
		f.tell(step, event.Reverted, "The interface is gone, and its settings with it: there is nothing to restore.")
		return nil
	}
	if err != nil {
		return f.failed(step, err)
	}
	moved := ""
	if now := device.Identity(); now.Name != s.Identity.Name || now.NetNS != s.Identity.NetNS {
		moved = fmt.Sprintf("It was %s and is %s in network namespace %d by now. ", netdev.Interface{Name: s.Identity.Name}, netdev.Interface{Name: now.Name}, now.NetNS)
		step.Interface, step.NetNS = now.Name, now.NetNS
	}
	changed, err := restoreFeatures(device, s.Features)
	if err == nil {
		err = restoreMTU(device, s.MTU)
	}
	if err != nil {
		return f.failed(step, err)
	}
	message := moved + fmt.Sprintf("Features and MTU (%d) are what they were", s.MTU)
	if len(changed) > 0 {
		message += ": " + strings.Join(changed, ", ")
	}
	f.tell(step, event.Reverted, message+".")
	return nil
}

func restoreFeatures(device Device, was map[string]netdev.Feature) (changed []string, err error) {
	now, err := device.Features()
	if err != nil {
		return nil, err
	}
	on := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if now[name].Changeable && now[name].Requested != was[name].Requested {
			on[name] = was[name].Requested
			changed = append(changed, fmt.Sprintf("%s %s", name, onOff(on[name])))
		}
	}
	if len(on) > 0 {
		err = device.SetFeatures(on)
	}
	if err == nil {
		now, err = device.Features()
	}
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		found := now[name]
		switch {
		case !found.Changeable: // others decide, such as a bridge that it is in
		case found.Requested != was[name].Requested:
			return nil, fmt.Errorf("%s was asked to be %s and still is not", name, onOff(was[name].Requested))
		case found.Active != was[name].Active:
			changed = append(changed, fmt.Sprintf("%s stays %s, since the driver or its backend has changed its mind", name, onOff(found.Active)))
		}
	}
	return changed, nil
}

func restoreMTU(device Device, was int) error {
	mtu, err := restored(device.MTU, device.SetMTU, was)
	if err == nil && mtu != was {
		err = fmt.Errorf("the MTU is %d and was %d", mtu, was)
	}
	return err
}

// restored sets a value to what it was, unless it is, and reads it back.
func restored[T comparable](get func() (T, error), set func(T) error, was T) (T, error) {
	value, err := get()
	if err != nil || value == was {
		return value, err
	}
	if err := set(was); err != nil {
		return value, err
	}
	return get()
}
