package kernel

import (
	"context"
	"fmt"
	"runtime"
)

// droppingFrees are what a dropped packet is freed with: a function up to 5.16,
// then an inline of the second.
var droppingFrees = []string{"kfree_skb", "kfree_skb_reason"}

// FreesDroppedAsConsumed reads from the machine code of the any-context free
// whether it frees a dropped packet as if it were consumed, so that only the
// tracepoint consume_skb tells of it: __dev_kfree_skb_any did before "net: fix
// __dev_kfree_skb_any() vs drop monitor" (6.3, and 6.1.18 and 5.10.173 of the
// stable kernels). The error says why the code does not tell.
func FreesDroppedAsConsumed(ctx context.Context, symbols *Symbols, free AnyContextFree, reader CodeReader) (bool, error) {
	if free.Symbol.Name != "__dev_kfree_skb_any" {
		return false, nil // the newer function came after the fix
	}
	return neverReaches(ctx, runtime.GOARCH, symbols, free.Symbol, droppingFrees, reader)
}

// neverReaches reports whether no instruction of the function calls, or jumps
// to, one of the others.
func neverReaches(ctx context.Context, architecture string, symbols *Symbols, function Symbol, others []string, reader CodeReader) (bool, error) {
	machine, err := machineFor(architecture)
	if err != nil {
		return false, err
	}
	if err := symbols.Addresses(); err != nil {
		return false, err
	}
	targets := make(map[uint64]bool)
	for _, name := range others {
		for _, symbol := range textOf(symbols.Lookup(name)) {
			targets[symbol.Address] = true
		}
	}
	if len(targets) == 0 {
		return false, fmt.Errorf("%v: %w", others, ErrSymbolMissing)
	}
	end, err := symbols.End(function)
	if err != nil {
		return false, err
	}
	code := codeCache{reader: reader, chunks: make(map[uint64][]byte)}
	whole := &part{name: function.Name, start: function.Address, end: end}
	for address := function.Address; address < end && !code.padded(ctx, whole, address); {
		bytes, err := code.at(ctx, whole, address, maxInstructionBytes)
		if err != nil {
			return false, err
		}
		inst, err := machine.decode(bytes, address)
		if err != nil {
			return false, fmt.Errorf("%s+%#x: %w", function.Name, address-function.Address, err)
		}
		if targets[inst.target] {
			return false, nil
		}
		address += uint64(inst.length)
	}
	return true, nil
}
