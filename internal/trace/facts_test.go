package trace

import (
	"errors"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
	"xentrace/test/need"
)

// /proc/kallsyms is read only where the types are not enough.
func TestLearnNames(t *testing.T) {
	need.Root(t, "to read the kernel's symbols")
	if !kernel.HasKernelTypes() {
		t.Skip("the kernel has no BTF")
	}
	if netfront.Loaded() {
		t.Skip("the driver is loaded: its symbols are found")
	}
	for _, test := range []struct {
		name   string
		loaded bool
		drops  event.Drops
		reads  bool
	}{
		{"the driver is loaded", true, event.DropsDriver, false},
		{"the driver is not loaded", false, event.DropsDriver, true},
		{"drops elsewhere", true, event.DropsAll, true},
	} {
		f := &facts{types: kernel.NewTypes(), drops: test.drops}
		err := f.learnNames(test.loaded)
		if test.reads != errors.Is(err, netfront.ErrNotLoaded) || !test.reads && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if read := f.symbols != nil; read != test.reads {
			t.Errorf("%s: symbols read: %v", test.name, read)
		}
		if test.reads {
			continue
		}
		if err := f.readSymbols(); err != nil {
			t.Fatal(err)
		}
		want, err := netfront.FindAnyContextFree(f.symbols, f.types)
		if err != nil || f.free.Symbol.Name != want.Symbol.Name || f.free.Consumed != want.Consumed {
			t.Errorf("%s: %+v, want %+v by the symbols, %v", test.name, f.free, want, err)
		}
	}
}
