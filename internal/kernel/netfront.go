package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrDriverNotLoaded means that no function of xen-netfront is in this kernel:
// the module is not loaded, or the driver is not built at all.
var ErrDriverNotLoaded = errors.New("the xen-netfront driver is not loaded")

// Any-context free functions of the network core, and how each says "consumed".
// The numbers contradict each other (1 is "dropped" in the older enum and
// "consumed" in the newer), so the name of the function decides.
var anyContextFrees = []struct{ function, enum, consumed string }{
	{"dev_kfree_skb_any_reason", "skb_drop_reason", "SKB_CONSUMED"},   // 6.4 and newer
	{"__dev_kfree_skb_any", "skb_free_reason", "SKB_REASON_CONSUMED"}, // up to 6.3
}

// NetfrontSymbols selects what [FindNetfront] and [DriverLinearizes] need.
func NetfrontSymbols() Wanted {
	want := LinearizeSymbols()
	for _, free := range anyContextFrees {
		want.Names = append(want.Names, free.function)
	}
	want.Names = append(want.Names, droppingFrees...)
	return want
}

// A Netfront is the driver as it is in this kernel.
type Netfront struct {
	Module    string // xen_netfront; empty if the driver is built in
	functions []Symbol
}

// FindNetfront looks for the driver in the kernel proper first, then among the
// modules. The error wraps [ErrDriverNotLoaded].
func FindNetfront(symbols *Symbols) (Netfront, error) {
	byModule := map[string][]Symbol{}
	for _, symbol := range symbols.Select(Symbol.Text) {
		if symbol.Module == driverModule || symbol.Module == "" && strings.HasPrefix(symbol.Name, driverPrefix) {
			byModule[symbol.Module] = append(byModule[symbol.Module], symbol)
		}
	}
	for _, module := range []string{"", driverModule} {
		if functions := byModule[module]; len(functions) > 0 {
			return Netfront{Module: module, functions: functions}, nil
		}
	}
	return Netfront{}, ErrDriverNotLoaded
}

// Function returns the driver's function of exactly this name. The error wraps
// [ErrSymbolMissing] and names the parts and copies that the compiler left of it.
func (n Netfront) Function(name string) (Symbol, error) {
	return oneOf(n.functions, name)
}

// Functions returns all of the driver's functions that are symbols.
func (n Netfront) Functions() []Symbol { return n.functions }

// An AnyContextFree is the function by which a driver's transmit function gets rid
// of a packet, sent or not.
type AnyContextFree struct {
	Symbol   Symbol
	Consumed uint64 // the second argument for a packet that is not lost, such as the original of a bounce copy
}

// FindAnyContextFree tells which of them this kernel has, by its symbols, and what
// "consumed" is in it, by its types. Errors wrap [ErrSymbolMissing],
// [ErrNoTypes] or [ErrNoSuchType].
func FindAnyContextFree(symbols *Symbols, types *Types) (AnyContextFree, error) {
	var missing error
	for _, free := range anyContextFrees {
		inKernel := symbols.Select(func(s Symbol) bool {
			return s.Text() && s.Module == "" && s.Base() == free.function
		})
		symbol, err := oneOf(inKernel, free.function)
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
func FindAnyContextFreeByType(types *Types) (AnyContextFree, error) {
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
		return AnyContextFree{Symbol: Symbol{Name: free.function, Type: 'T'}, Consumed: consumed}, nil
	}
	return AnyContextFree{}, fmt.Errorf("%s: %w", anyContextFrees[0].function, ErrSymbolMissing)
}

// FindTypedNetfront looks for the driver in the types of the kernel proper, then
// of its module, and returns which module has its transmit function, empty for
// the kernel proper. The error wraps [ErrDriverNotLoaded], [ErrNoTypes] or
// [ErrSymbolMissing].
func FindTypedNetfront(types *Types) (module string, err error) {
	there, err := types.HasFunction("", transmitFunction)
	if err != nil || there {
		return "", err
	}
	if !moduleLoaded(driverModule) {
		return "", ErrDriverNotLoaded
	}
	if !HasModuleTypes(driverModule) {
		return "", fmt.Errorf("module %s: %w", driverModule, ErrNoTypes)
	}
	there, err = types.HasFunction(driverModule, transmitFunction)
	if err == nil && !there {
		err = fmt.Errorf("%s: %w", transmitFunction, ErrSymbolMissing)
	}
	return driverModule, err
}

func moduleLoaded(module string) bool {
	_, err := os.Stat("/sys/module/" + module)
	return err == nil
}

func oneOf(functions []Symbol, name string) (Symbol, error) {
	var left []string
	for _, symbol := range functions {
		if symbol.Name == name {
			return symbol, nil
		}
		if symbol.Base() == name {
			left = append(left, symbol.Name)
		}
	}
	if len(left) > 0 {
		return Symbol{}, fmt.Errorf("%s: %w (what is left of it: %s)", name, ErrSymbolMissing, strings.Join(left, ", "))
	}
	return Symbol{}, fmt.Errorf("%s: %w", name, ErrSymbolMissing)
}
