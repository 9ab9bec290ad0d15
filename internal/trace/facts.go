package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"xentrace/bpf"
	"xentrace/internal/kernel"
)

// facts is what is known of this kernel before anything is attached.
type facts struct {
	types *kernel.Types

	// Of the driver; only looked for if an interface of its is to be watched.
	netfront    kernel.Netfront
	netfrontErr error
	free        kernel.AnyContextFree
	freeErr     error
	linearizes  kernel.Answer

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

// learnDriver looks for the driver's functions and reads its code.
func (f *facts) learnDriver(ctx context.Context) error {
	symbols, err := kernel.ReadSymbols(kernel.NetfrontSymbols())
	if err != nil {
		return err
	}
	f.netfront, f.netfrontErr = kernel.FindNetfront(symbols)
	f.free, f.freeErr = kernel.FindAnyContextFree(symbols, f.types)
	if f.netfrontErr != nil {
		return nil
	}
	reader, err := newCodeReader(f.types)
	if err != nil {
		f.linearizes.Evidence = err.Error()
		return nil
	}
	defer reader.Close()
	f.linearizes, err = kernel.DriverLinearizes(ctx, symbols, reader)
	if err != nil || f.freeErr != nil {
		return err
	}
	// Code that does not tell is taken for today's: then every free counts as
	// what it says.
	f.consumeIsDrop, err = kernel.FreesDroppedAsConsumed(ctx, symbols, f.free, reader)
	if err != nil {
		return ctx.Err()
	}
	return nil
}

// hooksDriver says why the driver cannot be hooked into, if it cannot.
func (f *facts) hooksDriver() error {
	if f.netfrontErr != nil {
		return f.netfrontErr
	}
	if _, err := f.netfront.Function(transmitFunction); err != nil {
		return err
	}
	return f.freeErr
}

// driverTypes says why the driver's functions cannot be hooked into by their
// types, if they cannot.
func (f *facts) driverTypes() error {
	if f.netfront.Module != "" && !kernel.HasModuleTypes(f.netfront.Module) {
		return fmt.Errorf("module %s: %w", f.netfront.Module, kernel.ErrNoTypes)
	}
	return nil
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
	switch f.linearizes.Value {
	case kernel.Linearizes:
		c.Linearizes = uint32(bpf.XentraceLinearizesLINEARIZES_YES)
	case kernel.Drops:
		c.Linearizes = uint32(bpf.XentraceLinearizesLINEARIZES_NO)
	}
	if transmit, err := f.netfront.Function(transmitFunction); f.netfrontErr == nil && err == nil {
		c.NetfrontXmit = transmit.Address
	}
	if offset, err := f.types.NetdevPrivOffset(); err == nil {
		c.PrivOffset = int32(offset)
	}
	if f.netfrontErr == nil && f.driverTypes() == nil {
		c.BrokenOffset = f.driverOffset("broken")
		c.BounceOffset = f.driverOffset("bounce")
	}
	return c
}

func (f *facts) driverOffset(member string) int32 {
	field, err := f.types.Field(f.netfront.Module, "netfront_info", member)
	if err != nil {
		return -1
	}
	return int32(field.Offset)
}

// typedReads reports whether the kernel has bpf_rdonly_cast, which came with
// 6.2. Whether a type of program may call it is found out by loading.
func (f *facts) typedReads() uint8 {
	types, err := f.types.Cache().Kernel()
	if err != nil {
		return 0
	}
	var function *btf.Func
	if err := types.TypeByName("bpf_rdonly_cast", &function); err != nil {
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
