package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf/btf"
)

const btfDirectory = "/sys/kernel/btf"

var (
	// ErrNoTypes means that the kernel or the module carries no type information
	// (CONFIG_DEBUG_INFO_BTF, CONFIG_DEBUG_INFO_BTF_MODULES, or a module built elsewhere).
	ErrNoTypes = errors.New("no BTF type information")

	// ErrNoSuchType means that the types lack what was asked for: this kernel
	// does not have it, or not under this name.
	ErrNoSuchType = errors.New("not among the kernel's types")
)

// Types are the running kernel's own types. Each set is decoded once, and the
// cache serves loading as well: hand [Types.Cache] to ebpf.CollectionOptions.
type Types struct {
	cache   *btf.Cache
	file    *typeFile        // nil: as the kernel itself shows them
	lacking map[Feature]bool // besides what the types show
	learned bool             // by experiment: they are parts of structures
}

// NewTypes reads nothing yet.
func NewTypes() *Types {
	return &Types{cache: btf.NewCache()}
}

// Cache is what the kernel's own types are kept in.
func (t *Types) Cache() *btf.Cache { return t.cache }

// conntrackModule is where nf_conn is, unless it is built in.
const conntrackModule = "nf_conntrack"

// Relocation returns what programs are relocated by: the kernel's types, and those of modules. By
// itself the library would take the types of every module there is. Both are nil where the kernel
// has no types.
func (t *Types) Relocation() (kernel *btf.Spec, modules []*btf.Spec) {
	kernel, err := t.Spec("")
	if err != nil {
		return nil, nil
	}
	if conntrack, err := t.Spec(conntrackModule); err == nil {
		modules = append(modules, conntrack)
	}
	return kernel, modules
}

// Path is the file that the types were read from; empty if the kernel shows them.
func (t *Types) Path() string {
	if t.file == nil {
		return ""
	}
	return "/" + t.file.path
}

// Learned reports whether the types were found by experiment: they have parts of structures, and no
// sizes.
func (t *Types) Learned() bool { return t.learned }

// HasModule reports whether a loaded module's types are known.
func (t *Types) HasModule(module string) bool {
	if t.Lacks(ModuleTypes) {
		return false
	}
	if t.file != nil {
		_, err := t.file.module(module)
		return err == nil
	}
	return HasModuleTypes(module)
}

// HasKernelTypes reports whether the kernel proper has BTF. It decodes nothing.
func HasKernelTypes() bool { return hasTypes(btfDirectory, "vmlinux") }

// ShowsTypes reports whether what shows types is mounted: without it the kernel may have them or not.
func ShowsTypes() bool { return hasTypes(filepath.Dir(btfDirectory), "") }

// HasModuleTypes reports whether a loaded module has BTF. Built-in drivers are
// part of the kernel proper.
func HasModuleTypes(module string) bool { return hasTypes(btfDirectory, module) }

func hasTypes(directory, name string) bool {
	_, err := os.Stat(filepath.Join(directory, name))
	return err == nil
}

// spec returns the types of a module, or of the kernel proper for an empty name.
func (t *Types) Spec(module string) (*btf.Spec, error) {
	if t.file != nil {
		if module == "" {
			return t.file.kernel, nil
		}
		return t.file.module(module)
	}
	if !HasKernelTypes() { // else the library takes any file that it finds
		return nil, fmt.Errorf("kernel: %w", ErrNoTypes)
	}
	spec, err := t.cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("kernel: %w: %w", ErrNoTypes, err)
	}
	if module == "" {
		return spec, nil
	}
	spec, err = t.cache.Module(module)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("module %s: %w", module, ErrNoTypes)
	}
	if err != nil {
		return nil, fmt.Errorf("module %s: types: %w", module, err)
	}
	return spec, nil
}

// EnumValue returns the number an enumerator stands for in this kernel. The error
// wraps [ErrNoTypes] or [ErrNoSuchType].
func (t *Types) EnumValue(enum, enumerator string) (uint64, error) {
	spec, err := t.Spec("")
	if err != nil {
		return 0, err
	}
	return enumValue(spec, enum, enumerator)
}

// HasFunction reports whether a module, or the kernel proper for an empty name,
// has a function of that name that can be hooked into by its type. The error
// wraps [ErrNoTypes].
func (t *Types) HasFunction(module, name string) (bool, error) {
	spec, err := t.Spec(module)
	if err != nil {
		return false, err
	}
	var function *btf.Func
	err = spec.TypeByName(name, &function)
	if errors.Is(err, btf.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("function %s: %w", name, err)
	}
	return true, nil
}

func enumValue(spec *btf.Spec, enum, enumerator string) (uint64, error) {
	// A name may belong to several types, in a kernel built from sources that disagree.
	candidates, err := spec.AnyTypesByName(enum)
	if err != nil {
		return 0, fmt.Errorf("enum %s: %w", enum, ErrNoSuchType)
	}
	for _, candidate := range candidates {
		if candidate, is := candidate.(*btf.Enum); is {
			for _, value := range candidate.Values {
				if value.Name == enumerator {
					return value.Value, nil
				}
			}
		}
	}
	return 0, fmt.Errorf("enum %s, enumerator %s: %w", enum, enumerator, ErrNoSuchType)
}

// A Field is the place of a structure's member.
type Field struct {
	Offset uint32 // in bytes from the start of the structure
	Size   uint32 // in bytes; 0 for a member without a length, such as net_device.priv
}

// Field returns where a member lies, those of anonymous structures and unions
// inside included. An empty module name means the kernel proper. Bit-fields are
// refused: they have no place in bytes.
func (t *Types) Field(module, structure, member string) (Field, error) {
	found, err := t.structure(module, structure)
	if err != nil {
		return Field{}, err
	}
	field, err := FieldOf(found.Members, member)
	if err != nil {
		return Field{}, fmt.Errorf("struct %s, member %s: %w", structure, member, err)
	}
	return field, nil
}

// StructSize returns the size of a structure in bytes.
func (t *Types) StructSize(module, structure string) (uint32, error) {
	if t.learned {
		return 0, fmt.Errorf("struct %s, its size: %w", structure, ErrNoSuchType)
	}
	found, err := t.structure(module, structure)
	if err != nil {
		return 0, err
	}
	return found.Size, nil
}

// A SharedInfo is what this kernel keeps at the end of every head, struct
// skb_shared_info.
type SharedInfo struct {
	MaxFrags int // MAX_SKB_FRAGS, 17 to 45 from 6.4 on (CONFIG_MAX_SKB_FRAGS)
	Bytes    int // in whole cache lines, as SKB_DATA_ALIGN makes them
}

// cacheLine is SMP_CACHE_BYTES of amd64 and arm64.
const cacheLine = 64

// SharedInfo reads it from the kernel's types.
func (t *Types) SharedInfo() (SharedInfo, error) {
	found, err := t.structure("", "skb_shared_info")
	if err == nil && t.learned {
		err = fmt.Errorf("struct skb_shared_info, its size: %w", ErrNoSuchType)
	}
	if err != nil {
		return SharedInfo{}, err
	}
	frags, err := arrayLength(found.Members, "frags")
	return SharedInfo{frags, int(alignUp(found.Size, cacheLine))}, err
}

func arrayLength(members []btf.Member, name string) (int, error) {
	for _, member := range members {
		if member.Name != name {
			continue
		}
		if array, is := btf.UnderlyingType(member.Type).(*btf.Array); is {
			return int(array.Nelems), nil
		}
		return 0, fmt.Errorf("member %s: it is no array", name)
	}
	return 0, fmt.Errorf("member %s: %w", name, ErrNoSuchType)
}

func (t *Types) structure(module, name string) (*btf.Struct, error) {
	spec, err := t.Spec(module)
	if err != nil {
		return nil, err
	}
	return StructureOf(spec, name)
}

func StructureOf(spec *btf.Spec, name string) (*btf.Struct, error) {
	var found *btf.Struct
	err := spec.TypeByName(name, &found)
	if errors.Is(err, btf.ErrNotFound) {
		return nil, fmt.Errorf("struct %s: %w", name, ErrNoSuchType)
	}
	if err != nil {
		return nil, fmt.Errorf("struct %s: %w", name, err)
	}
	return found, nil
}

func FieldOf(members []btf.Member, name string) (Field, error) {
	for _, member := range members {
		if member.Name == name {
			if member.BitfieldSize != 0 || member.Offset%8 != 0 {
				return Field{}, errors.New("it is a bit-field")
			}
			size, err := btf.Sizeof(member.Type)
			if err != nil {
				size = 0
			}
			return Field{Offset: member.Offset.Bytes(), Size: uint32(size)}, nil
		}
		if inner := membersOf(member.Type); member.Name == "" && inner != nil {
			field, err := FieldOf(inner, name)
			if err == nil {
				field.Offset += member.Offset.Bytes()
			}
			if !errors.Is(err, ErrNoSuchType) {
				return field, err
			}
		}
	}
	return Field{}, ErrNoSuchType
}

func membersOf(inner btf.Type) []btf.Member {
	switch inner := btf.UnderlyingType(inner).(type) {
	case *btf.Struct:
		return inner.Members
	case *btf.Union:
		return inner.Members
	default:
		return nil
	}
}

// PacketSpan returns how many bytes an sk_buff has from its length to the last of the members
// that the BPF programs read of every packet; 0 if they are more than most, or unknown.
func (t *Types) PacketSpan(most uint32) uint32 {
	var first, end uint32
	for i, name := range []string{"len", "data_len", "end", "head", "data"} {
		member, err := t.Field("", "sk_buff", name)
		if i == 0 {
			first = member.Offset
		}
		if err != nil || member.Offset < first {
			return 0
		}
		end = max(end, member.Offset+member.Size)
	}
	if end-first > most {
		return 0
	}
	return end - first
}

// netdevAlign is NETDEV_ALIGN of include/linux/netdevice.h, for kernels where the
// private area is no member of its own.
const netdevAlign = 32

// NetdevPrivOffset returns where the private area of a network driver begins, in
// bytes from the start of struct net_device: the member priv (6.12 and newer),
// else what follows the structure.
func (t *Types) NetdevPrivOffset() (uint32, error) {
	field, err := t.Field("", "net_device", "priv")
	if err == nil {
		return field.Offset, nil
	}
	if !errors.Is(err, ErrNoSuchType) {
		return 0, err
	}
	size, err := t.StructSize("", "net_device")
	if err != nil {
		return 0, err
	}
	return alignUp(size, netdevAlign), nil
}

func alignUp(size, to uint32) uint32 { return (size + to - 1) &^ (to - 1) }

// Arguments returns how many arguments a function of the kernel proper has. The
// error wraps [ErrNoTypes] or [ErrNoSuchType].
func (t *Types) Arguments(function string) (int, error) {
	spec, err := t.Spec("")
	if err != nil {
		return 0, err
	}
	var found *btf.Func
	if err := spec.TypeByName(function, &found); err != nil {
		return 0, fmt.Errorf("function %s: %w", function, ErrNoSuchType)
	}
	prototype, is := found.Type.(*btf.FuncProto)
	if !is {
		return 0, fmt.Errorf("function %s: %w", function, ErrNoSuchType)
	}
	return len(prototype.Params), nil
}

// A PerCPUField is a member of a variable that the kernel has once for each CPU.
type PerCPUField struct {
	Variable btf.TypeID // of the variable, in the types of the kernel proper
	Offset   uint32     // of the member in it, in bytes
}

// PreemptCount returns where preempt_count is kept, which shows process context
// from interrupts: __preempt_count, or from 6.2 to 6.14 a member of pcpu_hot. The
// error wraps [ErrNoTypes], or [ErrNoSuchType] on kernels that keep it elsewhere
// (arm64 in the task) and those whose BTF lacks variables, as Debian's 5.10.
func (t *Types) PreemptCount() (PerCPUField, error) {
	spec, err := t.Spec("")
	if err != nil {
		return PerCPUField{}, err
	}
	var variable *btf.Var
	for _, name := range []string{"__preempt_count", "pcpu_hot"} {
		if err := spec.TypeByName(name, &variable); errors.Is(err, btf.ErrNotFound) {
			continue
		} else if err != nil {
			return PerCPUField{}, fmt.Errorf("variable %s: %w", name, err)
		}
		id, err := spec.TypeID(variable)
		if err != nil {
			return PerCPUField{}, fmt.Errorf("variable %s: %w", name, err)
		}
		if name == "__preempt_count" {
			return PerCPUField{Variable: id}, nil
		}
		field, err := t.Field("", name, "preempt_count")
		return PerCPUField{Variable: id, Offset: field.Offset}, err
	}
	return PerCPUField{}, fmt.Errorf("preempt_count: %w", ErrNoSuchType)
}
