package kernel

import (
	"testing"

	"github.com/cilium/ebpf/btf"
)

func enum(name string, first uint64, values ...string) *btf.Enum {
	e := &btf.Enum{Name: name, Size: 4}
	for i, value := range values {
		e.Values = append(e.Values, btf.EnumValue{Name: value, Value: first + uint64(i)})
	}
	return e
}

// tracepoint is the prototype of skb:kfree_skb with those arguments.
func tracepoint(arguments ...btf.Type) *btf.Typedef {
	prototype := &btf.FuncProto{Return: (*btf.Void)(nil), Params: []btf.FuncParam{{Type: &btf.Pointer{Target: (*btf.Void)(nil)}}}}
	for _, argument := range arguments {
		prototype.Params = append(prototype.Params, btf.FuncParam{Type: argument})
	}
	return &btf.Typedef{Name: "btf_trace_kfree_skb", Type: &btf.Pointer{Target: prototype}}
}

func TestDropReasons(t *testing.T) {
	pointer := &btf.Pointer{Target: (*btf.Void)(nil)}
	old := enum("skb_drop_reason", 0, "SKB_NOT_DROPPED_YET", "SKB_DROP_REASON_NOT_SPECIFIED", "SKB_DROP_REASON_MAX")
	now := enum("skb_drop_reason", 0, "SKB_NOT_DROPPED_YET", "SKB_CONSUMED", "SKB_DROP_REASON_NOT_SPECIFIED", "SKB_DROP_REASON_NO_SOCKET", "SKB_DROP_REASON_MAX")
	now.Values = append(now.Values, btf.EnumValue{Name: "SKB_DROP_REASON_SUBSYS_MASK", Value: 0xffff0000})
	subsystems := enum("skb_drop_reason_subsys", 0, "SKB_DROP_REASON_SUBSYS_CORE", "SKB_DROP_REASON_SUBSYS_OPENVSWITCH", "SKB_DROP_REASON_SUBSYS_QDISC", "SKB_DROP_REASON_SUBSYS_NUM")
	qdisc := enum("qdisc_drop_reason", 2<<16, "__QDISC_DROP_REASON", "QDISC_DROP_GENERIC", "QDISC_DROP_OVERLIMIT", "QDISC_DROP_MAX")
	for _, test := range []struct {
		name     string
		types    []btf.Type
		none     bool
		consumed uint32
		want     map[uint32]string
	}{
		{name: "5.10", types: []btf.Type{tracepoint(pointer, pointer)}, none: true},
		{name: "a third argument that is no reason", types: []btf.Type{tracepoint(pointer, pointer, &btf.Int{Name: "int", Size: 4}), old}, none: true},
		{name: "6.1", types: []btf.Type{tracepoint(pointer, pointer, old)}, want: map[uint32]string{
			1: "NOT_SPECIFIED", 2: "0x2", 1<<16 | 3: "0x10003",
		}},
		{name: "today", types: []btf.Type{tracepoint(pointer, pointer, now, pointer), subsystems, qdisc}, consumed: 1, want: map[uint32]string{
			2: "NOT_SPECIFIED", 3: "NO_SOCKET", 4: "0x4",
			2<<16 | 1: "QDISC_DROP_GENERIC", 2<<16 | 2: "QDISC_DROP_OVERLIMIT", 2<<16 | 3: "QDISC:3", 1<<16 | 7: "OPENVSWITCH:7", 3<<16 | 1: "0x30001",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			reasons, err := dropReasonsOf(specOf(t, test.types...))
			if err != nil || (reasons == nil) != test.none {
				t.Fatalf("reasons %v, error %v", reasons, err)
			}
			if test.none {
				return
			}
			if reasons.Consumed != test.consumed {
				t.Errorf("consumed is %d, want %d", reasons.Consumed, test.consumed)
			}
			for number, want := range test.want {
				if got := reasons.Name(number); got != want {
					t.Errorf("%#x is %q, want %q", number, got, want)
				}
			}
		})
	}
	if _, err := dropReasonsOf(specOf(t, now)); err == nil {
		t.Error("no error without the tracepoint")
	}
}

func TestDropReasonsOfThisKernel(t *testing.T) {
	types := NewTypes()
	reasons, err := ReadDropReasons(types)
	if err != nil {
		t.Fatal(err)
	}
	number, err := types.EnumValue("skb_drop_reason", "SKB_DROP_REASON_NOT_SPECIFIED")
	if (reasons != nil) != (err == nil) {
		t.Fatalf("reasons %v, but NOT_SPECIFIED: %v", reasons, err)
	}
	if reasons == nil {
		return
	}
	if name := reasons.Name(uint32(number)); name != "NOT_SPECIFIED" {
		t.Errorf("NOT_SPECIFIED is %q", name)
	}
	consumed, err := types.EnumValue("skb_drop_reason", "SKB_CONSUMED")
	if err == nil && uint64(reasons.Consumed) != consumed || err != nil && reasons.Consumed == 1 {
		t.Errorf("consumed is %d, want %d (%v)", reasons.Consumed, consumed, err)
	}
}
