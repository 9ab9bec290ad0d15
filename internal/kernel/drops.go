package kernel

import (
	"context"
	"fmt"
)

// completionFunction gives the tracepoint skb:kfree_skb its own address for every
// packet that was handed to dev_kfree_skb_irq(), from 3.6 to 7.2: a sent one too.
const completionFunction = "net_tx_action"

// A DropFunction is a function of the kernel that frees packets as dropped.
type DropFunction struct {
	Name     string
	Argument int  // which argument is the packet, from 0; the reason, if there is one, follows
	List     bool // the packet is the first of a list
}

// What frees dropped packets: the functions of one row, of which the list's may
// call the other for each packet.
var dropFunctions = []struct{ single, list DropFunction }{
	{DropFunction{Name: "sk_skb_reason_drop", Argument: 1}, DropFunction{Name: "kfree_skb_list_reason", List: true}}, // 6.11 and newer
	{DropFunction{Name: "kfree_skb_reason"}, DropFunction{Name: "kfree_skb_list_reason", List: true}},                // 5.17 to 6.10
	{DropFunction{Name: "kfree_skb"}, DropFunction{Name: "kfree_skb_list", List: true}},
}

// DropSymbols selects what [Completion] and [FindDropFunctions] need.
func DropSymbols() Wanted {
	want := Wanted{Names: []string{completionFunction}}
	for _, functions := range dropFunctions {
		want.Names = append(want.Names, functions.single.Name, functions.list.Name)
	}
	return want
}

// Completion returns the address that the tracepoint skb:kfree_skb has for a
// location when it tells of a packet that the driver was done with. The error
// wraps [ErrAddressesHidden] or [ErrSymbolMissing].
func Completion(symbols *Symbols) (uint64, error) {
	if err := symbols.Addresses(); err != nil {
		return 0, err
	}
	symbol, err := OneOf(symbols.Functions(completionFunction), completionFunction)
	return symbol.Address, err
}

// FindDropFunctions returns the functions that every dropped packet goes through
// exactly once. Whether that takes the list's own is read from its code; where the
// code does not tell, it is the kernels with sk_skb_reason_drop that need it. The
// error wraps [ErrSymbolMissing].
func FindDropFunctions(ctx context.Context, symbols *Symbols, reader CodeReader) ([]DropFunction, error) {
	for _, functions := range dropFunctions {
		single := symbols.Functions(functions.single.Name)
		if len(single) == 0 {
			continue
		}
		found := []DropFunction{functions.single}
		list := symbols.Functions(functions.list.Name)
		if len(list) == 0 {
			return found, nil
		}
		calls, err := RunningCode(symbols, reader).Calls(ctx, list[0], single)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		apart := len(calls) == 0
		if err != nil {
			apart = functions.single.Argument != 0
		}
		if apart {
			found = append(found, functions.list)
		}
		return found, nil
	}
	return nil, fmt.Errorf("%s: %w", dropFunctions[0].single.Name, ErrSymbolMissing)
}
