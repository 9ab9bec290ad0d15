package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"xentrace/bpf"
)

// encodedTypes are types as a kernel holds them.
func encodedTypes(t *testing.T, types ...btf.Type) []byte {
	t.Helper()
	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := builder.Marshal(nil, &btf.MarshalOptions{Order: binary.NativeEndian})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// vmlinux writes the types of a kernel into a directory of its own.
func vmlinux(t *testing.T, raw []byte) (directory string) {
	t.Helper()
	directory = t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "vmlinux"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return directory
}

func subsetOf(t *testing.T, raw []byte, names ...string) *btf.Spec {
	t.Helper()
	spec, err := readSubset(vmlinux(t, raw), names, nil)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// What a type is made of is kept, and of what it points to all but structures and unions.
func TestSubset(t *testing.T) {
	number := &btf.Int{Name: "unsigned int", Size: 4}
	inner := &btf.Struct{Name: "inner", Size: 4, Members: []btf.Member{{Name: "n", Type: number}}}
	far := &btf.Struct{Name: "far", Size: 8, Members: []btf.Member{{Name: "inner", Type: inner}, {Name: "m", Type: number, Offset: 32}}}
	constant := &btf.Const{Type: far}
	function := &btf.FuncProto{Return: number, Params: []btf.FuncParam{{Name: "a", Type: &btf.Pointer{Target: &btf.Const{Type: &btf.Void{}}}}}}
	near := &btf.Struct{Name: "near", Size: 40, Members: []btf.Member{
		{Name: "far", Type: &btf.Pointer{Target: constant}},
		{Name: "call", Type: &btf.Pointer{Target: function}, Offset: 64},
		{Name: "inners", Type: &btf.Array{Index: number, Type: &btf.Typedef{Name: "inner_t", Type: inner}, Nelems: 4}, Offset: 128},
	}}
	other := &btf.Union{Name: "other", Size: 40, Members: []btf.Member{{Name: "near", Type: near}}}
	raw := encodedTypes(t, far, near, other, &btf.Enum{Name: "near", Size: 4, Values: []btf.EnumValue{{Name: "A", Value: 7}}})
	all, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	some := subsetOf(t, raw, "near", "missing")

	if got, err := some.AnyTypesByName("near"); err != nil || len(got) != 2 {
		t.Fatalf("near: %v, %v, want the structure and the enum", got, err)
	}
	for name, kept := range map[string]bool{"near": true, "inner": true, "inner_t": true, "unsigned int": true, "far": false, "other": false} {
		if _, err := some.AnyTypesByName(name); (err == nil) != kept {
			t.Errorf("%s: kept is %v, want %v", name, err == nil, kept)
		}
	}
	var want, got *btf.Struct
	if err := errors.Join(all.TypeByName("near", &want), some.TypeByName("near", &got)); err != nil {
		t.Fatal(err)
	}
	for _, types := range []struct {
		spec *btf.Spec
		near *btf.Struct
	}{{all, want}, {some, got}} {
		field, err := FieldOf(types.near.Members, "inners")
		if err != nil || field != (Field{Offset: 16, Size: 16}) {
			t.Errorf("inners: %+v, %v", field, err)
		}
		call := types.near.Members[1].Type.(*btf.Pointer).Target.(*btf.FuncProto)
		if _, void := call.Params[0].Type.(*btf.Pointer).Target.(*btf.Const).Type.(*btf.Void); !void {
			t.Errorf("argument of call: %v", call.Params[0].Type)
		}
	}
	wantID, _ := all.TypeID(want)
	if gotID, err := some.TypeID(got); err != nil || gotID != wantID {
		t.Errorf("near has the number %d, %v, want %d", gotID, err, wantID)
	}
	target := got.Members[0].Type.(*btf.Pointer).Target.(*btf.Const).Type
	if _, err := btf.Sizeof(target); err == nil {
		t.Errorf("%v, which was not kept, has a size", target)
	}
}

// A module's types are made of the kernel's, whatever their names.
func TestSubsetForModule(t *testing.T) {
	list := &btf.Struct{Name: "list", Size: 24, Members: []btf.Member{{Name: "count", Type: &btf.Typedef{Name: "u64", Type: &btf.Int{Name: "long", Size: 8}}}}}
	unused := &btf.Struct{Name: "unused", Size: 8}
	raw := encodedTypes(t, list, unused)
	base, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := parseRaw(raw, 0)
	if err != nil {
		t.Fatal(err)
	}
	var inBase *btf.Struct
	if err := base.TypeByName("list", &inBase); err != nil {
		t.Fatal(err)
	}
	id, err := base.TypeID(inBase)
	if err != nil {
		t.Fatal(err)
	}
	// struct of_module { struct list a[2]; }, numbered from the kernel's last type on.
	first := uint32(len(kernel.at)) + 1
	var module []byte
	for _, word := range []uint32{
		btfMagic | 1<<16, btfHeaderBytes, 0, 48, 48, 1,
		0, kindArray << 24, 0, uint32(id), uint32(id), 2,
		0, kindStruct<<24 | 1, 48, 0, first, 0,
	} {
		module = binary.NativeEndian.AppendUint32(module, word)
	}
	directory := vmlinux(t, raw)
	if err := os.WriteFile(filepath.Join(directory, "of_module"), append(module, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	some, err := readSubset(directory, []string{"none"}, []string{"of_module", "missing"})
	if err != nil {
		t.Fatal(err)
	}
	for name, kept := range map[string]bool{"list": true, "u64": true, "long": true, "unused": false} {
		if _, err := some.AnyTypesByName(name); (err == nil) != kept {
			t.Errorf("%s: kept is %v, want %v", name, err == nil, kept)
		}
	}
}

// What is cut off or no BTF is refused, and nothing panics.
func TestParseRawRefuses(t *testing.T) {
	number := &btf.Int{Name: "unsigned int", Size: 4}
	raw := encodedTypes(t, &btf.Struct{Name: "a_structure", Size: 8, Members: []btf.Member{{Name: "n", Type: number}, {Name: "m", Type: number, Offset: 32}}})
	for length := range raw {
		if _, err := parseRaw(raw[:length], 0); err == nil {
			t.Errorf("%d of %d bytes: no error", length, len(raw))
		}
	}
	for at := range raw {
		broken := slices.Clone(raw)
		for _, value := range []byte{0, 1, 0x7f, 0xff} {
			broken[at] = value
			if types, err := parseRaw(broken, 0); err == nil {
				newSubset(types, []string{"a_structure", "unsigned int"}).encoded()
			}
		}
	}
	if _, err := readSubset(t.TempDir(), nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no vmlinux: %v", err)
	}
	if _, err := readSubset(vmlinux(t, nil), nil, nil); err == nil {
		t.Error("empty vmlinux: no error")
	}
}

func TestConcatenation(t *testing.T) {
	c := concatenation{part("abc"), part(nil), section{io.NewSectionReader(strings.NewReader("xxdefxx"), 2, 3)}, part("g")}
	if err := iotest.TestReader(io.NewSectionReader(c, 0, 7), []byte("abcdefg")); err != nil {
		t.Error(err)
	}
	if n, err := c.ReadAt(make([]byte, 3), 5); n != 2 || err != io.EOF {
		t.Errorf("%d bytes, %v from the end", n, err)
	}
}

// The library's cache takes the subset for the kernel's types, and no module is read for it.
func TestTypesAreASubset(t *testing.T) {
	if !HasKernelTypes() {
		t.Skip("the kernel has no BTF")
	}
	types := NewTypes()
	spec, err := types.Cache().Kernel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := spec.AnyTypesByName("sk_buff"); err != nil {
		t.Errorf("sk_buff: %v", err)
	}
	if found, err := spec.AnyTypesByName("ext4_inode"); err == nil {
		t.Errorf("%v: the whole of the kernel's types was read", found)
	}
}

// objects are the BPF programs.
func objects(t *testing.T) (programs []*ebpf.ProgramSpec) {
	t.Helper()
	for _, object := range [][]byte{bpf.XentraceObject(), bpf.CongestionObject()} {
		spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
		if err != nil {
			t.Fatal(err)
		}
		for _, program := range spec.Programs {
			programs = append(programs, program)
		}
	}
	return programs
}

func relocationsOf(program *ebpf.ProgramSpec) (relocations []*btf.CORERelocation) {
	for i := range program.Instructions {
		if r := btf.CORERelocationMetadata(&program.Instructions[i]); r != nil {
			relocations = append(relocations, r)
		}
	}
	return relocations
}

// A name that is missing would not be found, on kernels that this test does not run on too.
func TestTypeNamesAreComplete(t *testing.T) {
	names := typeNames()
	need := func(name, by string) {
		if name, _, _ = strings.Cut(name, "___"); !slices.Contains(names, name) {
			t.Errorf("%s, which %s needs, is not among the names", name, by)
		}
	}
	for _, program := range objects(t) {
		for _, r := range relocationsOf(program) {
			_, quoted, _ := strings.Cut(fmt.Sprint(r), `:"`)
			name, _, _ := strings.Cut(quoted, `"`)
			need(name, program.Name)
		}
		for i := range program.Instructions {
			if ins := &program.Instructions[i]; ins.IsKfuncCall() {
				need(ins.Reference(), program.Name)
			}
		}
		switch program.AttachType {
		case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit:
			need(program.AttachTo, program.Name)
		case ebpf.AttachTraceRawTp:
			need("btf_trace_"+program.AttachTo, program.Name)
		case ebpf.AttachTraceIter:
			need("bpf_iter_"+program.AttachTo, program.Name)
		}
	}
	for _, from := range subsystemReasons {
		need(from.enum, "the names of drop reasons")
	}
}

// The programs are relocated as by all types of the running kernel.
func TestSubsetRelocates(t *testing.T) {
	if !HasKernelTypes() {
		t.Skip("the kernel has no BTF")
	}
	all, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	some, modules := NewTypes().Relocation()
	if some == nil {
		t.Fatal("no types")
	}
	whole := []*btf.Spec{all}
	if conntrack, err := btf.NewCache().Module(conntrackModule); err == nil {
		whole = append(whole, conntrack)
	}
	relocations := 0
	for _, program := range objects(t) {
		relos := relocationsOf(program)
		local := func(btf.Type) (btf.TypeID, error) { return 1, nil }
		want, err := btf.CORERelocate(relos, whole, program.ByteOrder, local)
		if err != nil {
			t.Fatalf("%s: %v", program.Name, err)
		}
		got, err := btf.CORERelocate(relos, append([]*btf.Spec{some}, modules...), program.ByteOrder, local)
		if err != nil {
			t.Fatalf("%s: %v", program.Name, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: relocated otherwise than by all types", program.Name)
		}
		relocations += len(relos)
	}
	if relocations < 100 {
		t.Errorf("%d relocations", relocations)
	}
}

// What is asked for is the same in all types of the running kernel.
func TestSubsetHasWhatIsAskedFor(t *testing.T) {
	if !HasKernelTypes() {
		t.Skip("the kernel has no BTF")
	}
	whole := NewTypes()
	whole.reading.Do(func() {}) // the library reads all
	ask := func(types *Types) string {
		priv, privErr := types.NetdevPrivOffset()
		shared, sharedErr := types.SharedInfo()
		count, countErr := types.PreemptCount()
		misses, missesErr := types.Field("", "bpf_prog_info", "recursion_misses")
		accept, acceptErr := types.Arguments("inet_csk_accept")
		cast, castErr := types.HasFunction("", "bpf_rdonly_cast")
		reasons, reasonsErr := ReadDropReasons(types)
		return fmt.Sprint(priv, privErr, shared, sharedErr, count, countErr, misses, missesErr, accept, acceptErr, cast, castErr, reasonsErr, reasons.names, reasons.subsystems)
	}
	if got, want := ask(NewTypes()), ask(whole); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
