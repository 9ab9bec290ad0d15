package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// specOf encodes and decodes the types, as a kernel would hold them.
func specOf(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()
	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := builder.Marshal(nil, &btf.MarshalOptions{Order: binary.NativeEndian})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestEnumValue(t *testing.T) {
	spec := specOf(t,
		&btf.Enum{Name: "skb_free_reason", Size: 4, Values: []btf.EnumValue{{Name: "SKB_REASON_CONSUMED", Value: 0}, {Name: "SKB_REASON_DROPPED", Value: 1}}},
		&btf.Struct{Name: "skb_drop_reason", Size: 0},
		&btf.Enum{Name: "skb_drop_reason", Size: 4, Values: []btf.EnumValue{{Name: "SKB_NOT_DROPPED_YET", Value: 0}, {Name: "SKB_CONSUMED", Value: 1}, {Name: "SKB_DROP_REASON_NOT_SPECIFIED", Value: 2}}},
	)
	for _, test := range []struct {
		enum, enumerator string
		value            uint64
		err              error
	}{
		{"skb_free_reason", "SKB_REASON_CONSUMED", 0, nil},
		{"skb_free_reason", "SKB_REASON_DROPPED", 1, nil},
		{"skb_drop_reason", "SKB_CONSUMED", 1, nil}, // a structure has the same name
		{"skb_drop_reason", "SKB_DROP_REASON_NOT_SPECIFIED", 2, nil},
		{"skb_drop_reason", "SKB_REASON_CONSUMED", 0, ErrNoSuchType},
		{"skb_other", "SKB_CONSUMED", 0, ErrNoSuchType},
	} {
		t.Run(test.enum+" "+test.enumerator, func(t *testing.T) {
			value, err := enumValue(spec, test.enum, test.enumerator)
			if value != test.value || !errors.Is(err, test.err) {
				t.Errorf("value %d, error %v; want %d, %v", value, err, test.value, test.err)
			}
		})
	}
}

func TestFieldOf(t *testing.T) {
	number := &btf.Int{Name: "unsigned int", Size: 4}
	flag := &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	members := []btf.Member{
		{Name: "first", Type: number},
		{Name: "", Type: &btf.Union{Size: 8, Members: []btf.Member{
			{Name: "either", Type: number},
			{Name: "", Type: &btf.Struct{Size: 8, Members: []btf.Member{{Name: "low", Type: number}, {Name: "high", Type: number, Offset: 32}}}},
		}}, Offset: 64},
		{Name: "bits", Type: number, Offset: 128, BitfieldSize: 3},
		{Name: "broken", Type: &btf.Const{Type: flag}, Offset: 168},
		{Name: "priv", Type: &btf.Array{Type: flag, Index: number, Nelems: 0}, Offset: 512},
	}
	for _, test := range []struct {
		member string
		field  Field
		fails  bool
	}{
		{"first", Field{0, 4}, false},
		{"either", Field{8, 4}, false},
		{"high", Field{12, 4}, false},
		{"broken", Field{21, 1}, false},
		{"priv", Field{64, 0}, false},
		{"bits", Field{}, true},
		{"none", Field{}, true},
	} {
		t.Run(test.member, func(t *testing.T) {
			field, err := FieldOf(members, test.member)
			if field != test.field || (err != nil) != test.fails {
				t.Errorf("field %+v, error %v; want %+v, error %t", field, err, test.field, test.fails)
			}
		})
	}
}

func TestArrayLength(t *testing.T) {
	number := &btf.Int{Name: "unsigned int", Size: 4}
	members := []btf.Member{{Name: "nr_frags", Type: number}, {Name: "frags", Type: &btf.Array{Index: number, Type: number, Nelems: 17}}}
	if got, err := arrayLength(members, "frags"); got != 17 || err != nil {
		t.Errorf("%d, error %v, want 17", got, err)
	}
	if _, err := arrayLength(members, "nr_frags"); err == nil {
		t.Error("a number is taken for an array")
	}
	if _, err := arrayLength(members, "frag_list"); !errors.Is(err, ErrNoSuchType) {
		t.Errorf("error %v, want %v", err, ErrNoSuchType)
	}
}

func TestAlignUp(t *testing.T) {
	for _, test := range []struct{ size, aligned uint32 }{{0, 0}, {1, 32}, {32, 32}, {2368, 2368}, {2369, 2400}} {
		if got := alignUp(test.size, netdevAlign); got != test.aligned {
			t.Errorf("%d becomes %d, want %d", test.size, got, test.aligned)
		}
	}
}

func TestPresenceOfTypes(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "xen_netfront"), []byte{1}, 0o600); err != nil {
		t.Fatal(err)
	}
	if !hasTypes(directory, "xen_netfront") || hasTypes(directory, "vmlinux") {
		t.Error("presence is not that of the file")
	}
}

// TestRunningKernelTypes checks the real types against what holds in every kernel.
func TestRunningKernelTypes(t *testing.T) {
	if !HasKernelTypes() {
		t.Fatal("the running kernel has no BTF, which every kernel this is tested on has")
	}
	types := NewTypes()
	unspecified, err := types.EnumValue("skb_drop_reason", "SKB_DROP_REASON_NOT_SPECIFIED")
	if err != nil || unspecified < 1 || unspecified > 2 {
		t.Errorf("SKB_DROP_REASON_NOT_SPECIFIED is %d, error %v; 1 or 2 in every kernel so far", unspecified, err)
	}
	length, err := types.Field("", "sk_buff", "len")
	if err != nil || length.Size != 4 || length.Offset == 0 {
		t.Errorf("sk_buff.len: %+v, error %v; want 4 bytes behind the list pointers", length, err)
	}
	next, err := types.Field("", "sk_buff", "next") // in an anonymous union
	if err != nil || next != (Field{0, 8}) {
		t.Errorf("sk_buff.next: %+v, error %v; want offset 0, 8 bytes", next, err)
	}
	size, err := types.StructSize("", "net_device")
	if err != nil {
		t.Fatal(err)
	}
	private, err := types.NetdevPrivOffset()
	if err != nil || private == 0 || private%netdevAlign != 0 || private > alignUp(size, 256) {
		t.Errorf("private area at %d of a structure of %d bytes, error %v", private, size, err)
	}
	if _, err := types.Field("", "net_device", "no_such_member"); !errors.Is(err, ErrNoSuchType) {
		t.Errorf("missing member: error %v, want %v", err, ErrNoSuchType)
	}
	if _, err := types.StructSize("", "no_such_structure"); !errors.Is(err, ErrNoSuchType) {
		t.Errorf("missing structure: error %v, want %v", err, ErrNoSuchType)
	}
	if _, err := types.Field("no_such_module", "netfront_info", "broken"); !errors.Is(err, ErrNoTypes) {
		t.Errorf("missing module: error %v, want %v", err, ErrNoTypes)
	}
}

func BenchmarkTypes(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		types := NewTypes()
		if _, err := types.EnumValue("skb_drop_reason", "SKB_CONSUMED"); err != nil {
			b.Fatal(err)
		}
		if _, err := types.NetdevPrivOffset(); err != nil {
			b.Fatal(err)
		}
	}
}
