package kernel

import (
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
// kernel whose tracepoint skb:kfree_skb tells no reasons: those came with 5.17.
func ReadDropReasons(types *Types) (*DropReasons, error) {
	spec, err := types.Spec("")
	if err != nil {
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

// freesHaveReasons tells whether the tracepoint has a third argument, the reason;
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
