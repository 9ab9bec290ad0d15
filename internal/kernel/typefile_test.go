package kernel

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cilium/ebpf/btf"

	"xentrace/test/memory"
	"xentrace/test/vmlinux"
)

var thisBuild, otherBuild = []byte("0123456789abcdefghij"), []byte("another build of 20.")

// encoded is BTF with a structure and, unless there are none, per-CPU variables 8 bytes apart.
func encoded(t *testing.T, variables int) []byte {
	t.Helper()
	number := &btf.Int{Name: "long", Size: 8}
	types := []btf.Type{&btf.Struct{Name: "sk_buff", Size: 16, Members: []btf.Member{{Name: "len", Type: number, Offset: 64}}}}
	if variables > 0 {
		section := &btf.Datasec{Name: perCPUSection, Size: uint32(8 * variables)}
		for n := range variables {
			variable := &btf.Var{Name: fmt.Sprintf("variable_%d", n), Type: number, Linkage: btf.GlobalVar}
			section.Vars = append(section.Vars, btf.VarSecinfo{Type: variable, Offset: uint32(8 * n), Size: 8})
		}
		types = append(types, section)
	}
	return marshaled(t, types)
}

// learnedTypes is BTF that was learned on a kernel.
func learnedTypes(t *testing.T, build []byte) []byte {
	t.Helper()
	number := &btf.Int{Name: "long", Size: 8}
	return marshaled(t, []btf.Type{
		LearnedMark(hex.EncodeToString(build)),
		&btf.Struct{Name: "sk_buff", Size: 16, Members: []btf.Member{{Name: "len", Type: number, Offset: 64}}},
	})
}

func marshaled(t *testing.T, types []btf.Type) []byte {
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

// kallsyms is what a kernel prints of so many per-CPU variables; the one called moved lies
// elsewhere.
func kallsyms(base uint64, variables int, moved string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%016x T a_function\n", uint64(0xffffffff81000000))
	for n := range variables {
		name, address := fmt.Sprintf("variable_%d", n), base+uint64(8*n)
		if name == moved {
			address += 8
		}
		fmt.Fprintf(&text, "%016x d %s\n", base+1<<20, name) // another one of that name
		fmt.Fprintf(&text, "%016x A %s\n", address, name)
	}
	return text.String()
}

// machineWith is a machine whose kernel shows no types, with a file of them and symbols.
func machineWith(file []byte, symbols string) *typeSource {
	return &typeSource{
		release: "6.1.0-9-amd64",
		files:   fstest.MapFS{"boot/vmlinux": {Data: file}, "sys/kernel/notes": {Data: vmlinux.Note(thisBuild)}, "dir/x": {}},
		symbols: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(symbols)), nil },
	}
}

func TestTypeFile(t *testing.T) {
	const all = 150
	types, alone := encoded(t, all), encoded(t, 0)
	for _, test := range []struct {
		name    string
		file    []byte
		symbols string
		refused string // why; empty: it is not
	}{
		{"this build's vmlinux", vmlinux.File(alone, vmlinux.Note(thisBuild)), "", ""},
		{"another build's", vmlinux.File(types, vmlinux.Note(otherBuild)), kallsyms(0, all, ""), "not of the running kernel: its build id is 616e"},
		{"BTF alone, zero-based variables", types, kallsyms(0, all, ""), ""},
		{"BTF alone, variables in a section of their own", types, kallsyms(0xffffffff84000000, all, ""), ""},
		{"a vmlinux without build id", vmlinux.File(types, nil), kallsyms(0, all, ""), ""},
		{"one variable lies elsewhere", types, kallsyms(0, all, "variable_149"), "not of the running kernel: the per-CPU variable variable_149 lies elsewhere"},
		{"too few variables are shown", types, kallsyms(0, 99, ""), "shows only 99 of its per-CPU variables"},
		{"no variable is shown", types, kallsyms(0, 0, ""), "shows only 0 of its per-CPU variables"},
		{"addresses are hidden", types, "0000000000000000 A variable_0\n", ErrAddressesHidden.Error()},
		{"no variables in the types", alone, kallsyms(0, all, ""), "no per-CPU variables to compare"},
		{"no BTF", vmlinux.File(nil, vmlinux.Note(thisBuild)), "", "it has no section .BTF: pahole -J"},
		{"learned on this build", learnedTypes(t, thisBuild), "", ""},
		{"learned on another", learnedTypes(t, otherBuild), "", "not of the running kernel: its build id is 616e"},
		{"a text", []byte("vmlinux"), "", "neither an ELF file nor BTF"},
		{"nothing", nil, "", "neither an ELF file nor BTF"},
		{"an ELF file that is cut off", vmlinux.File(alone, vmlinux.Note(thisBuild))[:100], "", "malformed ELF file"},
		{"BTF that is cut off", vmlinux.File(alone[:30], vmlinux.Note(thisBuild)), "", "its BTF is malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var found *Types
			var err error
			memory.Within(t, 4<<20, func() { found, err = machineWith(test.file, test.symbols).read("/boot/vmlinux") })
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("error %v, want %q", err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			field, err := found.Field("", "sk_buff", "len")
			if err != nil || field != (Field{8, 8}) || found.Path() != "/boot/vmlinux" {
				t.Errorf("field %v of %s, error %v", field, found.Path(), err)
			}
			if found.Learned() != strings.HasPrefix(test.name, "learned") {
				t.Errorf("learned: %v", found.Learned())
			}
			for _, feature := range []Feature{Trampolines, TypedTracepoints, TypedReads, Iterators, VariableAddress} {
				if !found.Lacks(feature) {
					t.Errorf("%s needs the kernel's own types", feature)
				}
			}
		})
	}
}

func TestTypeFileThatIsNone(t *testing.T) {
	s := machineWith(nil, "")
	if _, err := s.read("/boot/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := s.read("/dir"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: error %v", err)
	}
}

// A file of types is bounded before it is read.
func TestLargeTypeFile(t *testing.T) {
	raw := binary.NativeEndian.AppendUint16(nil, btfMagic)
	memory.Within(t, 1<<20, func() {
		if _, _, err := typesIn(bytes.NewReader(append(raw, 0, 0)), maxTypeBytes+1); err == nil || !strings.Contains(err.Error(), "over 64 MiB") {
			t.Errorf("error %v", err)
		}
	})
}

// A million types may have the same name of 40 MiB, which is read for each of them.
func TestTypesWithALongName(t *testing.T) {
	for length, want := range map[int]string{maxTypeName: "no per-CPU variables", maxTypeName + 1: "a name of over 4096 bytes"} {
		const header, forward = 24, 7 << 24
		raw := binary.NativeEndian.AppendUint16(nil, btfMagic)
		raw = append(raw, 1, 0)
		for _, n := range []int{header, 0, 12, 12, length + 2, 1, forward, 0} {
			raw = binary.NativeEndian.AppendUint32(raw, uint32(n))
		}
		raw = append(raw, "\x00"+strings.Repeat("n", length)+"\x00"...)
		if _, err := machineWith(raw, "").read("/boot/vmlinux"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a name of %d bytes: error %v, want %q", length, err, want)
		}
	}
}

// The first of the usual places that has this kernel's types is used; those of another are
// reported.
func TestSearch(t *testing.T) {
	s := machineWith(nil, "")
	files := s.files.(fstest.MapFS)
	if _, err := s.search(); !errors.Is(err, ErrNoTypes) || !strings.Contains(err.Error(), "/usr/lib/debug") {
		t.Errorf("nothing there: error %v", err)
	}
	alone := encoded(t, 0)
	files["boot/vmlinux-6.1.0-9-amd64"] = &fstest.MapFile{Data: vmlinux.File(alone, vmlinux.Note(otherBuild))}
	if _, err := s.search(); !errors.Is(err, ErrNoTypes) || !strings.Contains(err.Error(), "/boot/vmlinux-6.1.0-9-amd64: not of the running kernel") {
		t.Errorf("another build: error %v", err)
	}
	const place = "usr/lib/debug/lib/modules/6.1.0-9-amd64/vmlinux"
	files[place] = &fstest.MapFile{Data: vmlinux.File(alone, vmlinux.Note(thisBuild))}
	found, err := s.search()
	if err != nil || found.Path() != "/"+place {
		t.Errorf("found %v, error %v", found, err)
	}
}

// The types of a module are taken from the directory of the kernel's, if they are of the build
// that is loaded.
func TestModuleTypeFile(t *testing.T) {
	alone := encoded(t, 0)
	const module = "xen_netfront"
	for _, test := range []struct {
		name, file string
		note       []byte
		loaded     bool
		refused    string
	}{
		{"the module", "xen-netfront.ko", vmlinux.Note(thisBuild), true, ""},
		{"its debug file", "xen-netfront.ko.debug", vmlinux.Note(thisBuild), true, ""},
		{"another build", "xen-netfront.ko", vmlinux.Note(otherBuild), true, "its build id is 616e"},
		{"without build id", "xen_netfront.btf", nil, true, "it has no build id"},
		{"it is not loaded", "xen-netfront.ko", vmlinux.Note(thisBuild), false, "shows no build id"},
		{"none", "other.ko", vmlinux.Note(thisBuild), true, "no BTF type information"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := machineWith(vmlinux.File(alone, vmlinux.Note(thisBuild)), "")
			s.files.(fstest.MapFS)["boot/"+test.file] = &fstest.MapFile{Data: vmlinux.File(split(t, alone), test.note)}
			if test.loaded {
				s.files.(fstest.MapFS)["sys/module/"+module+"/notes/.note.gnu.build-id"] = &fstest.MapFile{Data: vmlinux.Note(thisBuild)}
			}
			found, err := s.read("/boot/vmlinux")
			if err != nil {
				t.Fatal(err)
			}
			field, err := found.Field(module, "netfront_info", "broken")
			if found.HasModule(module) != (test.refused == "") {
				t.Errorf("it has the module: %v", found.HasModule(module))
			}
			if test.refused == "" && (err != nil || field != (Field{24, 8})) {
				t.Errorf("field %v, error %v", field, err)
			}
			if test.refused != "" && (!errors.Is(err, ErrNoTypes) || !strings.Contains(err.Error(), test.refused)) {
				t.Errorf("error %v, want %q", err, test.refused)
			}
		})
	}
}

// split is a module's BTF, whose structure uses a type of the kernel's.
func split(t *testing.T, kernel []byte) []byte {
	t.Helper()
	base, err := btf.LoadSpecFromReader(bytes.NewReader(kernel))
	if err != nil {
		t.Fatal(err)
	}
	var number *btf.Int
	if err := base.TypeByName("long", &number); err != nil {
		t.Fatal(err)
	}
	id, err := base.TypeID(number)
	if err != nil {
		t.Fatal(err)
	}
	const strings, structKind, headerBytes, strLen = "netfront_info\x00broken\x00", 4, 24, 20
	first := binary.NativeEndian.Uint32(kernel[strLen:]) // its strings follow the kernel's
	words := []uint32{first, structKind<<24 | 1, 32, first + uint32(len("netfront_info\x00")), uint32(id), 192}
	raw := binary.NativeEndian.AppendUint16(nil, btfMagic)
	raw = append(raw, 1, 0) // version and flags
	for _, word := range append([]uint32{headerBytes, 0, uint32(4 * len(words)), uint32(4 * len(words)), uint32(len(strings))}, words...) {
		raw = binary.NativeEndian.AppendUint32(raw, word)
	}
	return append(raw, strings...)
}
