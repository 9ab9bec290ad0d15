package fix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// ErrNothing is what Revert returns if there is no state file.
var ErrNothing = errors.New("nothing to revert")

// ErrRefused is what Revert returns if all it has left undone are steps that it refused. The
// state file stays.
var ErrRefused = errors.New("not everything was restored")

// Revert puts back everything that the state file reports, removes the files that
// were written, and then the state file. It may be called again whenever it was
// cut off or something failed: what failed is in the error, the rest is done.
//
// Of another boot of this machine only values that are still, or by the files again, what
// fix set are put back. With force, a file that was changed by hand since is removed, and
// what cannot be put back is forgotten.
func (f *Fixer) Revert(ctx context.Context, force bool) (err error) {
	if _, err := os.Stat(filepath.Dir(f.State)); errors.Is(err, fs.ErrNotExist) {
		return ErrNothing // and no directory is made for the lock
	}
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
	r := &reverting{Fixer: f, force: force, boot: f.disk().bootID()}
	if err := r.revert(ctx, state); errors.Is(err, ErrRefused) {
		return ErrRefused
	} else if err != nil {
		return explain(fmt.Errorf("the state file stays, for another --revert: %w", err))
	}
	return explain(f.store().remove())
}

// A reverting puts a state back.
type reverting struct {
	*Fixer
	force bool
	boot  string
}

// revert returns ErrRefused itself if there is no other failure.
func (r *reverting) revert(ctx context.Context, s *State) error {
	var failures []error
	refused := false
	for _, file := range slices.Backward(s.Files) {
		err := r.removeFile(file, r.force)
		if errors.Is(err, ErrRefused) {
			refused = true
			continue
		}
		failures = append(failures, err)
	}
	failures = append(failures, r.restore(ctx, s))
	if err := errors.Join(failures...); err != nil || !refused {
		return err
	}
	return ErrRefused
}

func (r *reverting) restore(ctx context.Context, s *State) error {
	var failures []error
	for n := range s.Interfaces {
		failures = append(failures, r.restoreInterface(ctx, &s.Interfaces[n]))
	}
	for n := range s.Sysctls {
		failures = append(failures, r.restoreSysctl(&s.Sysctls[n]))
	}
	return errors.Join(failures...)
}

func (r *reverting) restoreSysctl(s *SysctlState) error {
	step := Step{FixStep: event.FixStep{Name: "restore-sysctl", Command: fmt.Sprintf("sysctl -w %s=%s", s.Name, s.Was)}}
	if other(s.Boot, r.boot) {
		now, err := r.Machine.Sysctl(s.Name)
		if err != nil {
			return r.failed(step, err)
		}
		if now != s.Set && now != s.Was {
			r.emit(step, event.Reverted, fmt.Sprintf("%s is %s since the machine was restarted, which fix did not set: it stays.", s.Name, now))
			return nil
		}
	}
	set := func(value string) error { return r.Machine.SetSysctl(s.Name, value) }
	value, err := restored(func() (string, error) { return r.Machine.Sysctl(s.Name) }, set, s.Was)
	if err == nil && value != s.Was {
		err = fmt.Errorf("%s is %s and was %s", s.Name, value, s.Was)
	}
	if err != nil {
		return r.failed(step, err)
	}
	r.emit(step, event.Reverted, fmt.Sprintf("%s is %s, as it was.", s.Name, s.Was))
	return nil
}

// restoreInterface restores the features and then the MTU: scatter-gather off takes
// the MTU of xen-netfront down, and a large MTU needs it on.
func (r *reverting) restoreInterface(ctx context.Context, s *InterfaceState) error {
	step := Step{FixStep: event.FixStep{Name: "restore-interface", Interface: s.Identity.Name, NetNS: s.Identity.NetNS}}
	restarted := other(s.Boot, r.boot)
	device, err := r.Machine.Find(ctx, s.Identity)
	switch {
	case restarted && (errors.Is(err, netdev.ErrNotFound) || errors.Is(err, ErrUnseen) || err == nil && !s.Identity.sameHardware(device.Identity())):
		r.emit(step, event.Reverted, "The interface is not there since the machine was restarted, which ended its settings: there is nothing to restore.")
		return nil
	case errors.Is(err, netdev.ErrNotFound):
		r.emit(step, event.Reverted, "The interface is gone, and its settings with it: there is nothing to restore.")
		return nil
	case errors.Is(err, ErrUnseen) && r.force:
		r.emit(step, event.Refused, "Not restored: the interface was not found. Forgotten, as --force asks.")
		return nil
	case err != nil:
		return r.failed(step, err)
	}
	moved := ""
	if now := device.Identity(); now.Name != s.Identity.Name || now.NetNS != s.Identity.NetNS {
		moved = fmt.Sprintf("It was %s and is %s in network namespace %d by now. ", netdev.Interface{Name: s.Identity.Name}, netdev.Interface{Name: now.Name}, now.NetNS)
		step.Interface, step.NetNS = now.Name, now.NetNS
	}
	features, mtu := s.Features, s.MTU
	if restarted {
		if features, mtu, err = stillSet(device, s); err != nil {
			return r.failed(step, err)
		}
	}
	changed, err := restoreFeatures(device, features)
	if err == nil {
		err = restoreMTU(device, mtu)
	}
	if err != nil {
		return r.failed(step, err)
	}
	message := moved + fmt.Sprintf("Features and MTU (%d) are what they were", mtu)
	if restarted {
		message = moved + fmt.Sprintf("What fix set is what it was, and the rest (MTU %d) as it is since the machine was restarted", mtu)
	}
	if len(changed) > 0 {
		message += ": " + strings.Join(changed, ", ")
	}
	r.emit(step, event.Reverted, message+".")
	return nil
}

// stillSet returns what of a state of another boot is to be put back: the features and the
// MTU that are again what fix set. Everything else the restart has put back.
func stillSet(device Device, s *InterfaceState) (map[string]netdev.Feature, int, error) {
	now, err := device.Features()
	if err != nil {
		return nil, 0, err
	}
	features := make(map[string]netdev.Feature)
	for name, on := range s.SetFeatures {
		if now[name].Requested == on {
			features[name] = s.Features[name]
		}
	}
	mtu, err := device.MTU()
	if err == nil && s.SetMTU != 0 && mtu == s.SetMTU {
		mtu = s.MTU
	}
	return features, mtu, err
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
