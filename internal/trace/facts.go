package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
)

// facts is what is known of this kernel before anything is attached. What the
// symbols tell is left for later where the types are enough: there are more than
// a hundred thousand of them, and the kernel takes its time to print them.
type facts struct {
	types *kernel.Types
	drops event.Drops

	module string // of the driver's functions; empty in the kernel proper
	typed  bool   // the driver's types are known, under that module
	free   netfront.AnyContextFree

	symbols  *kernel.Symbols // nil until they are read
	transmit uint64          // address of xennet_start_xmit, 0 if not known

	// This kernel frees dropped packets as if they were consumed; needed where
	// the tracepoints stand in for the any-context free.
	consumeIsDrop bool
}

// checkKernel refuses what no backend can run on, each in its own sentence.
func checkKernel() error {
	release, err := kernel.ReadRelease()
	if err != nil {
		return err
	}
	if !release.HasRingBuffer() {
		return fmt.Errorf("%w: kernel %s has no BPF ring buffer, which came with 5.8", ErrCannotRun, release)
	}
	if realtime, err := kernel.IsRealtime(); err != nil {
		return err
	} else if realtime {
		return fmt.Errorf("%w: kernel %s is built with PREEMPT_RT, where transmits of one CPU preempt each other and a packet cannot be matched with its fate; boot a kernel without PREEMPT_RT", ErrCannotRun, release)
	}
	capabilities, err := kernel.ReadCapabilities()
	if err != nil {
		return err
	}
	var missing []string
	for _, need := range capabilities.Missing(release) {
		if need.Required {
			missing = append(missing, fmt.Sprintf("%s (%s)", need.Name, need.Reason))
		}
	}
	if len(missing) > 0 && kernel.InUserNamespace() {
		return fmt.Errorf("%w: this is a user namespace, as of a rootless container, whose root may not load BPF programs: run it as root on the machine itself", ErrCannotRun)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: missing privilege %s: run it as root, with sudo", ErrCannotRun, strings.Join(missing, ", "))
	}
	lockdown, err := kernel.ReadLockdown()
	if err != nil {
		return err
	}
	if lockdown.ForbidsTracing() {
		return fmt.Errorf("%w: %s", ErrCannotRun, lockdown.Forbids())
	}
	if !kernel.HasKernelTypes() {
		return fmt.Errorf("%w: kernel %s has no BTF type information (/sys/kernel/btf/vmlinux): use a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions ship them", ErrCannotRun, release)
	}
	return nil
}

// learnTypes looks for the driver in the kernel's types, and says why it cannot
// be hooked into by them, if it cannot.
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

// learnSymbols looks for the driver among the kernel's symbols, and says why it
// cannot be hooked into by its name, if it cannot.
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

// learnFrees finds out how this kernel frees dropped packets. Code that does not
// tell is taken for today's: every free counts as what it says.
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

// linearizes reads from the driver's code whether it linearizes.
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
	return answer
}

// configuration is what the kernel side is told of this kernel. A driver whose
// structures are not known leaves two causes unknown: device_broken, and
// bounce_failed with a backend that is not trusted.
func (f *facts) configuration() bpf.XentraceConfiguration {
	c := bpf.XentraceConfiguration{
		PageSize:     uint32(os.Getpagesize()),
		Consumed:     uint32(f.free.Consumed),
		PrivOffset:   -1,
		BrokenOffset: -1,
		BounceOffset: -1,
		TypedReads:   f.typedReads(),
	}
	if f.consumeIsDrop {
		c.ConsumeIsDrop = 1
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

// typedReads reports whether the kernel has bpf_rdonly_cast, which came with
// 6.2. Whether a type of program may call it is found out by loading.
func (f *facts) typedReads() uint8 {
	if there, err := f.types.HasFunction("", "bpf_rdonly_cast"); err != nil || !there {
		return 0
	}
	return 1
}

// explain gives an error of loading or attaching the sentence it deserves.
func explain(err error) error {
	var rejected *ebpf.VerifierError
	if errors.As(err, &rejected) {
		return fmt.Errorf("rejected by this kernel's verifier, which is a defect of xentrace: %w", err)
	}
	if errors.Is(err, os.ErrPermission) {
		if lockdown, lockdownErr := kernel.ReadLockdown(); lockdownErr == nil && lockdown.Forbids() != "" {
			return fmt.Errorf("%s: %w", lockdown.Forbids(), err)
		}
		return fmt.Errorf("refused by this kernel (is it built without it?): %w", err)
	}
	return err
}
