package trace

import (
	"context"
	"os"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
)

// facts is what is known of this kernel before anything is attached. Symbols are read
// only where the types are not enough: the kernel takes long to print more than 100,000.
type facts struct {
	types *kernel.Types
	drops event.Drops

	module string // of the driver's functions; empty in the kernel proper
	typed  bool   // the driver's types are known, under that module
	free   netfront.AnyContextFree

	symbols  *kernel.Symbols // nil until they are read
	transmit uint64          // address of xennet_start_xmit, 0 if not known: backends that hook it do without

	// Where the driver's code shows netfront_info.broken, in bytes from struct net_device,
	// and bounce behind it; 0 if it does not, or its types do.
	flags uint32

	// This kernel frees dropped packets as if they were consumed; needed where
	// the tracepoints stand in for the any-context free.
	consumeIsDrop bool
}

// learnTypes looks for the driver in the kernel's types, and returns why it cannot
// be attached to by them, if it cannot.
func (f *facts) learnTypes() (err error) {
	if f.module, err = netfront.FindTyped(f.types); err != nil {
		return err
	}
	f.typed = true
	f.free, err = netfront.FindAnyContextFreeByType(f.types)
	return err
}

// readSymbols reads the kernel's symbols once, with all that may be asked for.
func (f *facts) readSymbols() (err error) {
	if f.symbols != nil {
		return nil
	}
	want := netfront.Symbols()
	if f.drops == event.DropsAll {
		want = want.With(kernel.DropSymbols())
	}
	f.symbols, err = kernel.ReadSymbols(want)
	return err
}

// learnSymbols looks for the driver among the kernel's symbols, and returns why it
// cannot be attached to by its name, if it cannot.
func (f *facts) learnSymbols() (err error) {
	if err := f.readSymbols(); err != nil {
		return err
	}
	driver, err := netfront.Find(f.symbols)
	if err != nil {
		return err
	}
	transmit, err := driver.Function(transmitFunction)
	if err != nil {
		return err
	}
	f.transmit = transmit.Address
	f.free, err = netfront.FindAnyContextFree(f.symbols, f.types)
	return err
}

// learnNames finds the functions that kprobes are attached to. The kernel takes as long to print its
// symbols as all else at the start, so the types have to do where the driver is loaded; drops
// elsewhere need the symbols in any case.
func (f *facts) learnNames(loaded bool) (err error) {
	if loaded && f.drops != event.DropsAll {
		if f.free, err = netfront.FindAnyContextFreeByType(f.types); err == nil {
			return nil
		}
	}
	return f.learnSymbols()
}

// learnFrees finds out how this kernel frees dropped packets. If the code does not show
// it, a free means what its name suggests, as on current kernels.
func (f *facts) learnFrees(ctx context.Context) error {
	reader, err := newCodeReader(f.types)
	if err != nil {
		return err
	}
	defer reader.Close()
	f.consumeIsDrop, err = netfront.FreesDroppedAsConsumed(ctx, f.symbols, f.free, reader)
	if err != nil {
		f.consumeIsDrop = false
	}
	return ctx.Err()
}

func (f *facts) linearizes(ctx context.Context) netfront.Answer {
	if f.symbols == nil {
		var err error
		if f.symbols, err = kernel.ReadSymbols(netfront.LinearizeSymbols()); err != nil {
			return netfront.Answer{Evidence: err.Error()}
		}
	}
	reader, err := newCodeReader(f.types)
	if err != nil {
		return netfront.Answer{Evidence: err.Error()}
	}
	defer reader.Close()
	answer, err := netfront.DriverLinearizes(ctx, f.symbols, reader)
	if err != nil {
		return netfront.Answer{Evidence: err.Error()}
	}
	if !f.typed {
		f.learnFlags(ctx, reader)
	}
	return answer
}

// learnFlags looks for the driver's flags in its code. Without them device_broken and, with
// an untrusted backend, bounce_failed are reported as unknown.
func (f *facts) learnFlags(ctx context.Context, reader kernel.CodeReader) {
	private, err := f.types.NetdevPrivOffset()
	if err != nil {
		return
	}
	if flags, err := netfront.FlagsInCode(ctx, f.symbols, reader, private); err == nil {
		f.flags = flags.Broken
	}
}

// configuration is what the BPF programs need to know of this kernel before they are loaded.
func (f *facts) configuration() bpf.XentraceConfiguration {
	c := bpf.XentraceConfiguration{
		PageSize:      uint32(os.Getpagesize()),
		Consumed:      uint32(f.free.Consumed),
		PrivOffset:    -1,
		BrokenOffset:  -1,
		BounceOffset:  -1,
		ConsumeIsDrop: flag(f.consumeIsDrop),
		TypedReads:    flag(f.types.AllowsTypedReads()),
		SkbSpan:       uint16(f.types.PacketSpan(bpf.SKBSpan)),
	}
	if offset, err := f.types.NetdevPrivOffset(); err == nil {
		c.PrivOffset = int32(offset)
	}
	if f.typed {
		c.BrokenOffset = f.driverOffset("broken")
		c.BounceOffset = f.driverOffset("bounce")
	}
	return c
}

func (f *facts) driverOffset(member string) int32 {
	field, err := f.types.Field(f.module, "netfront_info", member)
	if err != nil {
		return -1
	}
	return int32(field.Offset)
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}
