package learn

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"

	"xentrace/internal/kernel"
)

// Types returns a layout as BTF: of the structures that programs read, as their object has them,
// the members that were found, in their places. What was not found is not in it, so that a
// program that needs it does not load. mark is [kernel.LearnedMark].
func (l Layout) Types(object *btf.Spec, mark btf.Type) ([]byte, error) {
	b := builder{layout: l, made: make(map[string]*btf.Struct)}
	for typ, err := range object.All() {
		if err != nil {
			return nil, fmt.Errorf("types of the BPF programs: %w", err)
		}
		if structure, is := typ.(*btf.Struct); is && structure.Name != "" {
			b.add(structure)
		}
	}
	types := []btf.Type{mark}
	for _, structure := range b.made {
		types = append(types, structure)
	}
	types = append(types, b.enums()...)
	slices.SortFunc(types, func(a, b btf.Type) int { return strings.Compare(a.TypeName(), b.TypeName()) })
	made, err := btf.NewBuilder(types, nil)
	if err != nil {
		return nil, fmt.Errorf("types: %w", err)
	}
	content, err := made.Marshal(nil, nil)
	return content, err
}

// builder makes the structures. Pointers lose what they point to, since the programs' own
// structures must not be taken for the kernel's.
type builder struct {
	layout Layout
	made   map[string]*btf.Struct
}

func (b *builder) structure(name string) *btf.Struct {
	if b.made[name] == nil {
		b.made[name] = &btf.Struct{Name: name}
	}
	return b.made[name]
}

// add takes the members of a structure, or of one of its forms (NAME___FORM), that have a place.
func (b *builder) add(local *btf.Struct) {
	name, _, _ := strings.Cut(local.Name, "___")
	for _, m := range local.Members {
		place, known := b.place(name, m.Name)
		if !known {
			continue
		}
		made := b.structure(name)
		member := btf.Member{Name: m.Name, Type: b.convert(m.Type), Offset: btf.Bits(8 * place.Offset)}
		made.Members = append(made.Members, member)
		made.Size = max(made.Size, uint32(place.Offset+place.Size))
	}
	if whole, known := b.layout[name]; known {
		b.structure(name).Size = uint32(whole.Size)
	}
}

// registers are where the kernel keeps a function's arguments, as programs may rely on it.
var registers = map[string]Member{"pt_regs.dx": {96, 8}, "pt_regs.si": {104, 8}, "pt_regs.di": {112, 8}, "user_pt_regs.regs": {0, 248}}

// place returns where a member lies. Some are first by their nature; ns is where its only known
// member is.
func (b *builder) place(structure, member string) (place Member, known bool) {
	switch name := structure + "." + member; name {
	case "net.ns":
		place, known = b.layout["net.ns.inum"]
	case "ns_common.inum":
		return Member{0, 4}, true
	case "sock.__sk_common":
		return Member{0, commonBytes}, true
	case "netdev_queue.dev":
		return Member{0, 8}, true
	default:
		if place, known = registers[name]; !known {
			place, known = b.layout[name]
		}
	}
	return place, known
}

func (b *builder) convert(t btf.Type) btf.Type {
	switch t := t.(type) {
	case *btf.Pointer:
		return &btf.Pointer{Target: &btf.Void{}}
	case *btf.Typedef:
		return &btf.Typedef{Name: t.Name, Type: b.convert(t.Type)}
	case *btf.Const:
		return b.convert(t.Type)
	case *btf.Volatile:
		return b.convert(t.Type)
	case *btf.Array:
		made := &btf.Array{Index: t.Index, Type: b.convert(t.Type), Nelems: t.Nelems}
		if t.Nelems == 1 {
			made.Nelems = 0 // how many there are in the kernel was not found
		}
		return made
	case *btf.Struct:
		if t.Name == "ns_common" || t.Name == "sock_common" {
			return b.structure(t.Name)
		}
		made := &btf.Struct{Name: t.Name, Size: t.Size, Members: slices.Clone(t.Members)}
		for i := range made.Members {
			made.Members[i].Type = b.convert(made.Members[i].Type)
		}
		return made
	}
	return t
}

// enums are not found by experiment. Both kinds of free have had these numbers since their functions
// exist (see netfront.AnyContextFree), and the bits of a device's state since 2.6;
// learnState has seen that of the carrier.
func (b *builder) enums() []btf.Type {
	values := func(name string, values ...btf.EnumValue) btf.Type {
		return &btf.Enum{Name: name, Size: 4, Values: values}
	}
	return []btf.Type{
		values("skb_free_reason", btf.EnumValue{Name: "SKB_REASON_CONSUMED", Value: 0}, btf.EnumValue{Name: "SKB_REASON_DROPPED", Value: 1}),
		values("skb_drop_reason", btf.EnumValue{Name: "SKB_CONSUMED", Value: 1}),
		values("netdev_state_t", btf.EnumValue{Name: "__LINK_STATE_PRESENT", Value: 1}, btf.EnumValue{Name: "__LINK_STATE_NOCARRIER", Value: 2}),
	}
}

// Against compares a layout with types that the kernel shows. The errors name each member that
// lies elsewhere by them.
func (l Layout) Against(types *kernel.Types) (agree int, err error) {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(l)) {
		structure, member, _ := strings.Cut(name, ".")
		place, expected := l[name], kernel.Field{}
		var failure error
		switch {
		case member == "":
			expected.Size, failure = types.StructSize("", structure)
		case member == "ns.inum":
			var inum kernel.Field
			expected, failure = types.Field("", structure, "ns")
			if failure == nil {
				inum, failure = types.Field("", "ns_common", "inum")
			}
			expected.Offset += inum.Offset
		default:
			expected, failure = types.Field("", structure, member)
		}
		switch {
		case failure != nil:
			wrong = append(wrong, failure)
		case int(expected.Offset) != place.Offset || member == "" && int(expected.Size) != place.Size:
			wrong = append(wrong, fmt.Errorf("%s: found at %d (%d bytes), by the kernel's types at %d (%d bytes)", name, place.Offset, place.Size, expected.Offset, expected.Size))
		default:
			agree++
		}
	}
	return agree, errors.Join(wrong...)
}
