package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"
)

const (
	dropReasonEnum   = "skb_drop_reason"
	dropReasonPrefix = "SKB_DROP_REASON_"

	// consumedReason is what the functions that free dropped packets are called
	// with for packets that are not dropped, since 6.4.
	consumedReason = "SKB_CONSUMED"

	subsystemEnum   = "skb_drop_reason_subsys"
	subsystemPrefix = "SKB_DROP_REASON_SUBSYS_"
	subsystemShift  = 16 // SKB_DROP_REASON_SUBSYS_SHIFT of include/net/dropreason.h
)

// subsystemReasons are the enums of the subsystems that are named otherwise than
// SUBSYSTEM_drop_reason, and the modules whose types they belong to.
var subsystemReasons = map[string]struct{ enum, module string }{
	"MAC80211_UNUSABLE": {"mac80211_drop_reason", "mac80211"},
	"MAC80211_MONITOR":  {"mac80211_drop_reason", "mac80211"},
	"OPENVSWITCH":       {"ovs_drop_reason", "openvswitch"},
}

// DropReasons are the names of the running kernel's reasons for dropping packets.
type DropReasons struct {
	mu         sync.Mutex // of names and learned
	names      map[uint32]string
	learned    map[uint32]bool   // subsystems whose modules were looked into
	subsystems map[uint32]string // their names by number

	// Consumed is the reason of packets that are freed and not dropped; 0, which
	// no packet is freed with, where the kernel has none (up to 6.3).
	Consumed uint32
}

// ReadDropReasons takes the names from the kernel's types. It returns nil for a
// kernel whose tracepoint skb:kfree_skb shows no reasons: those came with 5.17.
func ReadDropReasons(types *Types) (*DropReasons, error) {
	spec, err := types.Spec("")
	if err != nil || types.Lacks(DropReasonTypes) {
		return nil, err
	}
	return dropReasonsOf(spec)
}

func dropReasonsOf(spec *btf.Spec) (*DropReasons, error) {
	has, err := freesHaveReasons(spec)
	if err != nil || !has {
		return nil, err
	}
	r := &DropReasons{learned: make(map[uint32]bool)}
	if r.names, err = enumNames(spec, dropReasonEnum, dropReasonPrefix); err != nil {
		return nil, err
	}
	for number, name := range r.names {
		if name == consumedReason {
			r.Consumed = number
		}
	}
	r.subsystems, err = enumNames(spec, subsystemEnum, subsystemPrefix)
	if err != nil && !errors.Is(err, ErrNoSuchType) { // they came with 6.4
		return nil, err
	}
	for _, subsystem := range r.subsystems {
		r.learn(spec, ownEnum(subsystem))
	}
	return r, nil
}

// freesHaveReasons reports whether the tracepoint has a third argument, the reason;
// the first one of its prototype is not the tracepoint's own.
func freesHaveReasons(spec *btf.Spec) (bool, error) {
	var prototype *btf.Typedef
	if err := spec.TypeByName("btf_trace_kfree_skb", &prototype); err != nil {
		return false, fmt.Errorf("tracepoint kfree_skb: %w", ErrNoSuchType)
	}
	pointer, is := btf.UnderlyingType(prototype).(*btf.Pointer)
	if !is {
		return false, fmt.Errorf("tracepoint kfree_skb: its type %v is not understood", prototype)
	}
	function, is := pointer.Target.(*btf.FuncProto)
	if !is || len(function.Params) < 3 {
		return false, fmt.Errorf("tracepoint kfree_skb: its type %v is not understood", pointer)
	}
	if len(function.Params) < 4 {
		return false, nil
	}
	reason, is := btf.UnderlyingType(function.Params[3].Type).(*btf.Enum)
	return is && reason.Name == dropReasonEnum, nil
}

// Name returns a reason's name as the kernel's own trace output has it. One that
// is not among the types is named by its subsystem, if that is known, and its
// number.
func (r *DropReasons) Name(reason uint32) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name, known := r.names[reason]; known {
		return name
	}
	number := reason >> subsystemShift
	subsystem, known := r.subsystems[number]
	if number == 0 || !known {
		return fmt.Sprintf("%#x", reason)
	}
	if module := subsystemReasons[subsystem].module; module != "" && !r.learned[number] && HasModuleTypes(module) {
		r.learned[number] = true
		if spec, err := NewTypes().Spec(module); err == nil { // else the number has to do
			r.learn(spec, ownEnum(subsystem))
		}
	}
	if name, known := r.names[reason]; known {
		return name
	}
	return fmt.Sprintf("%s:%d", subsystem, reason&(1<<subsystemShift-1))
}

func ownEnum(subsystem string) string {
	if from, special := subsystemReasons[subsystem]; special {
		return from.enum
	}
	return strings.ToLower(subsystem) + "_drop_reason"
}

func (r *DropReasons) learn(spec *btf.Spec, enum string) {
	names, err := enumNames(spec, enum, "")
	if err != nil {
		return
	}
	for number, name := range names {
		if number>>subsystemShift != 0 && !strings.HasPrefix(name, "__") && !strings.HasSuffix(name, "_MAX") {
			r.names[number] = name
		}
	}
}

// enumNames returns what the numbers of an enum are called, without a prefix that
// they share. Marks that are no values of it, at its end, are left out.
func enumNames(spec *btf.Spec, name, prefix string) (map[uint32]string, error) {
	var enum *btf.Enum
	if err := spec.TypeByName(name, &enum); err != nil {
		return nil, fmt.Errorf("enum %s: %w", name, ErrNoSuchType)
	}
	names := make(map[uint32]string, len(enum.Values))
	for _, value := range enum.Values {
		short := strings.TrimPrefix(value.Name, prefix)
		if short == "MAX" || short == "SUBSYS_MASK" || short == "NUM" {
			continue
		}
		names[uint32(value.Value)] = short
	}
	return names, nil
}

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
// location when it reports a packet that the driver was done with. The error
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
// code does not show, it is the kernels with sk_skb_reason_drop that need it. The
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
