// Package netfront is what is known of the xen-netfront driver: its functions, its
// structures, and whether its code linearizes packets over the slot limit.
package netfront

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"xentrace/internal/kernel"
)

// ErrNotLoaded means that no function of xen-netfront is in this kernel:
// the module is not loaded, or the driver is not built at all.
var ErrNotLoaded = errors.New("the xen-netfront driver is not loaded")

// Any-context free functions of the network core, and how each marks "consumed".
// The numbers contradict each other (1 is "dropped" in the older enum and
// "consumed" in the newer), so the name of the function decides.
var anyContextFrees = []struct{ function, enum, consumed string }{
	{"dev_kfree_skb_any_reason", "skb_drop_reason", "SKB_CONSUMED"},   // 6.4 and newer
	{"__dev_kfree_skb_any", "skb_free_reason", "SKB_REASON_CONSUMED"}, // up to 6.3
}

// Symbols selects what [Find] and [DriverLinearizes] need.
func Symbols() kernel.Wanted {
	want := LinearizeSymbols()
	for _, free := range anyContextFrees {
		want.Names = append(want.Names, free.function)
	}
	want.Names = append(want.Names, droppingFrees...)
	return want
}

// A Driver is xen-netfront as it is in this kernel.
type Driver struct {
	Module    string // xen_netfront; empty if the driver is built in
	functions []kernel.Symbol
}

// Find looks for the driver in the kernel proper first, then among the
// modules. The error wraps [ErrNotLoaded].
func Find(symbols *kernel.Symbols) (Driver, error) {
	byModule := map[string][]kernel.Symbol{}
	for _, symbol := range symbols.Select(kernel.Symbol.Text) {
		if symbol.Module == Module || symbol.Module == "" && strings.HasPrefix(symbol.Name, driverPrefix) {
			byModule[symbol.Module] = append(byModule[symbol.Module], symbol)
		}
	}
	for _, module := range []string{"", Module} {
		if functions := byModule[module]; len(functions) > 0 {
			return Driver{Module: module, functions: functions}, nil
		}
	}
	return Driver{}, ErrNotLoaded
}

// Function returns the driver's function of exactly this name. The error wraps
// [kernel.ErrSymbolMissing] and names the parts and copies that the compiler left of it.
func (d Driver) Function(name string) (kernel.Symbol, error) {
	return kernel.OneOf(d.functions, name)
}

// An AnyContextFree is the function by which a driver's transmit function frees a packet,
// sent or not.
type AnyContextFree struct {
	Symbol   kernel.Symbol
	Consumed uint64 // the second argument for a packet that is not lost, such as the original of a bounce copy
}

// FindAnyContextFree reports which of them this kernel has, by its symbols, and what
// "consumed" is in it, by its types. Errors wrap [kernel.ErrSymbolMissing],
// [kernel.ErrNoTypes] or [kernel.ErrNoSuchType].
func FindAnyContextFree(symbols *kernel.Symbols, types *kernel.Types) (AnyContextFree, error) {
	var missing error
	for _, free := range anyContextFrees {
		inKernel := symbols.Select(func(s kernel.Symbol) bool {
			return s.Text() && s.Module == "" && s.Base() == free.function
		})
		symbol, err := kernel.OneOf(inKernel, free.function)
		if err != nil && missing != nil {
			err = fmt.Errorf("%w; %w", missing, err)
		}
		if err != nil {
			missing = err
			continue
		}
		consumed, err := types.EnumValue(free.enum, free.consumed)
		if err != nil {
			return AnyContextFree{}, fmt.Errorf("%s: %w", free.function, err)
		}
		return AnyContextFree{Symbol: symbol, Consumed: consumed}, nil
	}
	return AnyContextFree{}, missing
}

// FindAnyContextFreeByType is [FindAnyContextFree] from the kernel's types alone,
// which have functions that can be hooked into by their type. The symbol that it
// returns has a name and no address.
func FindAnyContextFreeByType(types *kernel.Types) (AnyContextFree, error) {
	for _, free := range anyContextFrees {
		there, err := types.HasFunction("", free.function)
		if err != nil {
			return AnyContextFree{}, err
		}
		if !there {
			continue
		}
		consumed, err := types.EnumValue(free.enum, free.consumed)
		if err != nil {
			return AnyContextFree{}, fmt.Errorf("%s: %w", free.function, err)
		}
		return AnyContextFree{Symbol: kernel.Symbol{Name: free.function, Type: 'T'}, Consumed: consumed}, nil
	}
	return AnyContextFree{}, fmt.Errorf("%s: %w", anyContextFrees[0].function, kernel.ErrSymbolMissing)
}

// FindTyped looks for the driver in the types of the kernel proper, then
// of its module, and returns which module has its transmit function, empty for
// the kernel proper. The error wraps [ErrNotLoaded], [kernel.ErrNoTypes] or
// [kernel.ErrSymbolMissing].
func FindTyped(types *kernel.Types) (module string, err error) {
	there, err := types.HasFunction("", transmitFunction)
	if err != nil || there {
		return "", err
	}
	if !Loaded() {
		return "", ErrNotLoaded
	}
	if !types.HasModule(Module) {
		return "", fmt.Errorf("module %s: %w", Module, kernel.ErrNoTypes)
	}
	there, err = types.HasFunction(Module, transmitFunction)
	if err == nil && !there {
		err = fmt.Errorf("%s: %w", transmitFunction, kernel.ErrSymbolMissing)
	}
	return Module, err
}

// Loaded reports whether the driver is in the kernel. One that is built in shows by its parameters.
func Loaded() bool {
	_, err := os.Stat("/sys/module/" + Module)
	return err == nil
}

// droppingFrees are what a dropped packet is freed with: a function up to 5.16,
// then an inline of the second.
var droppingFrees = []string{"kfree_skb", "kfree_skb_reason"}

// FreesDroppedAsConsumed reads from the machine code of the any-context free whether it
// frees a dropped packet as if it were consumed, so that only the tracepoint consume_skb
// shows it: __dev_kfree_skb_any did before "net: fix __dev_kfree_skb_any() vs drop monitor"
// (6.3; stable 6.1.18 and 5.10.173). The error has the reason why the code does not show it.
func FreesDroppedAsConsumed(ctx context.Context, symbols *kernel.Symbols, free AnyContextFree, reader kernel.CodeReader) (bool, error) {
	if free.Symbol.Name != "__dev_kfree_skb_any" {
		return false, nil // the newer function came after the fix
	}
	var frees []kernel.Symbol
	for _, name := range droppingFrees {
		frees = append(frees, symbols.Functions(name)...)
	}
	if len(frees) == 0 {
		return false, fmt.Errorf("%v: %w", droppingFrees, kernel.ErrSymbolMissing)
	}
	calls, err := kernel.RunningCode(symbols, reader).Calls(ctx, free.Symbol, frees)
	return err == nil && len(calls) == 0, err
}
