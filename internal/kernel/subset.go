package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Layout of BTF, in include/uapi/linux/btf.h.
const (
	btfMagic       = 0xeb9f
	btfHeaderBytes = 24
	btfTypeBytes   = 12

	kindInt       = 1
	kindPointer   = 2
	kindArray     = 3
	kindStruct    = 4
	kindUnion     = 5
	kindEnum      = 6
	kindForward   = 7
	kindTypedef   = 8
	kindVolatile  = 9
	kindConst     = 10
	kindRestrict  = 11
	kindFunc      = 12
	kindFuncProto = 13
	kindVar       = 14
	kindDatasec   = 15
	kindFloat     = 16
	kindDeclTag   = 17
	kindTypeTag   = 18
	kindEnum64    = 19
)

var errNotThisBTF = errors.New("the layout of the BTF is not as expected")

// rawTypes are the types of a kernel or module, not decoded.
type rawTypes struct {
	types, strings []byte
	stringsAt      int64    // in the file
	first          uint32   // number of the first type
	at             []uint32 // where each is in types, by its number less the first
}

func parseRaw(raw []byte, first uint32) (*rawTypes, error) {
	if len(raw) < btfHeaderBytes || binary.NativeEndian.Uint16(raw) != btfMagic {
		return nil, errNotThisBTF
	}
	number := func(at int) uint64 { return uint64(binary.NativeEndian.Uint32(raw[at:])) }
	types := number(4) + number(8)
	strings := number(4) + number(16)
	if types+number(12) > uint64(len(raw)) || strings+number(20) > uint64(len(raw)) {
		return nil, errNotThisBTF
	}
	r := &rawTypes{
		types: raw[types : types+number(12)], strings: raw[strings : strings+number(20)],
		stringsAt: int64(strings), first: first,
	}
	if first == 0 {
		r.first = 1 // void is 0
	}
	r.at = make([]uint32, 0, len(r.types)/24)
	for at := 0; at < len(r.types); {
		if len(r.types)-at < btfTypeBytes {
			return nil, errNotThisBTF
		}
		r.at = append(r.at, uint32(at))
		size, err := r.sizeAt(at)
		if err != nil {
			return nil, err
		}
		if at += size; at > len(r.types) {
			return nil, errNotThisBTF
		}
	}
	return r, nil
}

func (r *rawTypes) word(at int) uint32 { return binary.NativeEndian.Uint32(r.types[at:]) }

func (r *rawTypes) kindAt(at int) uint32 { return r.word(at+4) >> 24 & 0x1f }

// each is the size of what follows a type, once or for each of its members.
func each(kind uint32) (size int, members bool) {
	switch kind {
	case kindInt, kindVar, kindDeclTag:
		return 4, false
	case kindArray:
		return 12, false
	case kindStruct, kindUnion, kindDatasec, kindEnum64:
		return 12, true
	case kindEnum, kindFuncProto:
		return 8, true
	}
	return 0, false
}

func (r *rawTypes) sizeAt(at int) (int, error) {
	kind := r.kindAt(at)
	if kind == 0 || kind > kindEnum64 {
		return 0, fmt.Errorf("kind %d: %w", kind, errNotThisBTF)
	}
	size, members := each(kind)
	if members {
		size *= int(r.word(at+4) & 0xffff)
	}
	return btfTypeBytes + size, nil
}

// name returns the bytes from a type's name on; nil if it has none.
func (r *rawTypes) nameAt(at int) []byte {
	if offset := r.word(at); offset != 0 && int(offset)+2 < len(r.strings) {
		return r.strings[offset:]
	}
	return nil
}

// references calls f with the types that a type is made of, and whether it only points to them.
func (r *rawTypes) references(at int, f func(id uint32, pointed bool)) {
	switch kind := r.kindAt(at); kind {
	case kindPointer:
		f(r.word(at+8), true)
	case kindTypedef, kindVolatile, kindConst, kindRestrict, kindFunc, kindVar, kindTypeTag:
		f(r.word(at+8), false)
	case kindArray:
		f(r.word(at+12), false)
		f(r.word(at+16), false)
	case kindStruct, kindUnion, kindFuncProto:
		if kind == kindFuncProto {
			f(r.word(at+8), false)
		}
		size, _ := each(kind)
		for n := range int(r.word(at+4) & 0xffff) {
			f(r.word(at+btfTypeBytes+n*size+4), false)
		}
	}
}

// How a type is kept.
const (
	notKept = iota
	pointed // and what it is made of, but for structures and unions
	whole
)

// A subset is what is kept of the kernel's types.
type subset struct {
	*rawTypes
	kept []uint8 // by number
}

func newSubset(kernel *rawTypes, names []string) *subset {
	s := &subset{kernel, make([]uint8, len(kernel.at)+1)}
	wanted := make(map[string]bool, len(names))
	var begins [1 << 16]bool // most names are none of them by their first two bytes
	for _, name := range names {
		wanted[name] = true
		begins[binary.NativeEndian.Uint16([]byte(name))] = true
	}
	for n, at := range s.at {
		name := s.nameAt(int(at))
		if name == nil || !begins[binary.NativeEndian.Uint16(name)] {
			continue
		}
		if end := bytes.IndexByte(name, 0); end > 0 && wanted[string(name[:end])] && s.kindAt(int(at)) != kindDeclTag {
			s.keep(uint32(n)+s.first, whole)
		}
	}
	return s
}

// keep keeps a type with what it is made of. Pointers are kept, and so is what they point to but
// for structures and unions, which would be nearly all there are.
func (s *subset) keep(id uint32, how uint8) {
	type visit struct {
		id  uint32
		how uint8
	}
	for left := []visit{{id, how}}; len(left) > 0; {
		v := left[len(left)-1]
		left = left[:len(left)-1]
		if v.id == 0 || int(v.id) >= len(s.kept) || s.kept[v.id] >= v.how {
			continue
		}
		at := int(s.at[v.id-s.first])
		if kind := s.kindAt(at); v.how == pointed && (kind == kindStruct || kind == kindUnion) {
			continue
		}
		s.kept[v.id] = v.how
		s.references(at, func(id uint32, points bool) {
			how := v.how
			if points {
				how = pointed
			}
			left = append(left, visit{id, how})
		})
	}
}

// keepFor keeps what the types of a module are made of.
func (s *subset) keepFor(module *rawTypes) {
	for _, at := range module.at {
		module.references(int(at), func(id uint32, points bool) {
			if id < module.first {
				how := uint8(whole)
				if points {
					how = pointed
				}
				s.keep(id, how)
			}
		})
	}
}

// encoded returns the header and the types. Every type has the number that it has in the kernel;
// those that are not kept are forward declarations without a name.
func (s *subset) encoded() []byte {
	size := btfHeaderBytes
	for n, at := range s.at {
		size += s.size(n, int(at))
	}
	out := make([]byte, btfHeaderBytes, size)
	for n, at := range s.at {
		if s.kept[uint32(n)+s.first] == notKept {
			out = append(out, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
			binary.NativeEndian.PutUint32(out[len(out)-8:], kindForward<<24)
			continue
		}
		out = append(out, s.types[at:int(at)+s.size(n, int(at))]...)
	}
	binary.NativeEndian.PutUint16(out, btfMagic)
	out[2] = 1 // BTF_VERSION
	for at, value := range map[int]int{4: btfHeaderBytes, 12: size - btfHeaderBytes, 16: size - btfHeaderBytes, 20: len(s.strings)} {
		binary.NativeEndian.PutUint32(out[at:], uint32(value))
	}
	return out
}

func (s *subset) size(n, at int) int {
	if s.kept[uint32(n)+s.first] == notKept {
		return btfTypeBytes
	}
	size, _ := s.sizeAt(at) // it was checked
	return size
}

// readSubset reads the kernel's types of these names, with what they and the types of these
// modules are made of.
func readSubset(directory string, names, modules []string) (*btf.Spec, error) {
	file, err := os.Open(filepath.Join(directory, "vmlinux"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := mapped(file)
	if err != nil {
		return nil, err
	}
	types, err := parseRaw(raw, 0)
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(raw))
	}
	s := newSubset(types, names)
	for _, module := range modules {
		if own, err := os.ReadFile(filepath.Join(directory, module)); err == nil {
			if types, err := parseRaw(own, uint32(len(types.at))+1); err == nil {
				s.keepFor(types)
			}
		}
	}
	kept, strings := s.encoded(), section{io.NewSectionReader(file, types.stringsAt, int64(len(types.strings)))}
	if err := unix.Munmap(raw); err != nil {
		return nil, err
	}
	return btf.LoadSpecFromReader(inELF(part(kept), strings))
}

// mapped returns the content of a file outside the heap: it takes some MiB for a moment.
func mapped(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	raw, err := unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err == nil {
		return raw, nil
	}
	// Up to 6.15 the kernel's types cannot be mapped.
	raw, err = unix.Mmap(-1, 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(file, raw); err != nil {
		return nil, errors.Join(err, unix.Munmap(raw))
	}
	return raw, nil
}

// setKernel makes a cache return these types as the kernel's. The library has no way to do so, and
// would read all of them. It reports whether that worked.
func setKernel(cache *btf.Cache, types *btf.Spec) bool {
	field := reflect.ValueOf(cache).Elem().FieldByName("kernelTypes")
	if !field.IsValid() || field.Type() != reflect.TypeOf(types) {
		return false
	}
	reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Set(reflect.ValueOf(types))
	return true
}
