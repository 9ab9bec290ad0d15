package trace

import (
	"context"
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
	need.That(t, kernel.HasKernelTypes(), "a kernel with BTF")
	need.That(t, !netfront.Loaded(), "a kernel without the driver: its symbols are found")
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

// What the driver's code shows is waited for.
func TestDriverCode(t *testing.T) {
	var tracer Tracer
	generation := tracer.driver.generations.begin(0, "")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tracer.DriverCode(over); !errors.Is(err, context.Canceled) {
		t.Errorf("before it is read: %v, want %v", err, context.Canceled)
	}
	want := netfront.Answer{Value: netfront.Drops, Evidence: "no call"}
	go generation.resolve(want)
	if got, err := tracer.DriverCode(t.Context()); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}
