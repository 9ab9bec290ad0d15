package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

const kallsymsPath = "/proc/kallsyms"

// maxFunctionBytes bounds what is believed to be one function: a larger
// distance to the next symbol means that the end of the function is not known.
const maxFunctionBytes = 64 << 10

var (
	// ErrAddressesHidden means that /proc/kallsyms has names but no addresses:
	// kernel.kptr_restrict is 2, or this process has no CAP_SYSLOG.
	ErrAddressesHidden = errors.New("kernel addresses are hidden: give this process CAP_SYSLOG and set sysctl kernel.kptr_restrict to 1 or 0")

	// ErrSymbolMissing means that the running kernel has no symbol of that name.
	ErrSymbolMissing = errors.New("symbol is inlined or renamed in this kernel")

	// ErrExtentUnknown means that no symbol above a function shows where it ends.
	ErrExtentUnknown = errors.New("end of the function is not known")
)

// A Symbol is one line of /proc/kallsyms.
type Symbol struct {
	Name    string // with the compiler's suffix, such as .cold or .isra.0
	Address uint64 // 0 where addresses are hidden
	Type    byte   // as nm prints it: T and t are code
	Module  string // without brackets; empty for the kernel proper
}

// Text reports whether the symbol is code.
func (s Symbol) Text() bool {
	return s.Type == 'T' || s.Type == 't' || s.Type == 'W' || s.Type == 'w'
}

// Base is the name without what the compiler appends to the parts and copies of
// a function: .cold, .part.N, .isra.N, .constprop.N, .llvm.N.
func (s Symbol) Base() string {
	base, _, _ := strings.Cut(s.Name, ".")
	return base
}

// Where describes where the symbol is.
func (s Symbol) Where() string {
	if s.Module == "" {
		return "vmlinux"
	}
	return "module " + s.Module
}

// Wanted selects the symbols that are kept from the hundreds of thousands a
// kernel has.
type Wanted struct {
	Names    []string // with or without a compiler's suffix, and __pfx_ or __cfi_ before them
	Prefixes []string
	Contains []string
	Modules  []string // every symbol of these modules
}

// With returns the selection of both.
func (w Wanted) With(other Wanted) Wanted {
	join := func(a, b []string) []string { return append(append([]string{}, a...), b...) }
	return Wanted{
		Names:    join(w.Names, other.Names),
		Prefixes: join(w.Prefixes, other.Prefixes),
		Contains: join(w.Contains, other.Contains),
		Modules:  join(w.Modules, other.Modules),
	}
}

// Symbols holds the wanted symbols of one kernel, and the bare addresses of all
// others, which mark where a function ends.
type Symbols struct {
	kept      []Symbol
	addresses []uint64 // of every symbol, in the order of the file
	seen      bool     // one address at least is not zero
}

// ReadSymbols reads /proc/kallsyms once. Hidden addresses are no error here: the
// names alone show which functions exist. See [Symbols.Addresses].
func ReadSymbols(want Wanted) (*Symbols, error) {
	file, err := os.Open(kallsymsPath)
	if err != nil {
		return nil, fmt.Errorf("kernel symbols: %w", err)
	}
	defer file.Close()
	return ParseSymbols(file, want)
}

// Addresses returns an error wrapping [ErrAddressesHidden] if the kernel showed
// names only.
func (s *Symbols) Addresses() error {
	if s.seen {
		return nil
	}
	return fmt.Errorf("%s: %w", kallsymsPath, ErrAddressesHidden)
}

// Lookup returns every wanted symbol of exactly this name: a function can exist
// in the kernel proper and in modules, and static ones several times in each.
func (s *Symbols) Lookup(name string) []Symbol {
	return s.Select(func(symbol Symbol) bool { return symbol.Name == name })
}

// Functions returns every wanted function of exactly this name.
func (s *Symbols) Functions(name string) []Symbol {
	return s.Select(func(symbol Symbol) bool { return symbol.Text() && symbol.Name == name })
}

// Select returns the wanted symbols for which keep is true, in the order of the
// kernel.
func (s *Symbols) Select(keep func(Symbol) bool) []Symbol {
	var found []Symbol
	for _, symbol := range s.kept {
		if keep(symbol) {
			found = append(found, symbol)
		}
	}
	return found
}

// End returns the address behind the function, which is that of the next symbol:
// padding counts as part of the function. The error wraps [ErrExtentUnknown] or
// [ErrAddressesHidden].
func (s *Symbols) End(symbol Symbol) (uint64, error) {
	if err := s.Addresses(); err != nil {
		return 0, err
	}
	end, found := s.next(symbol.Address + 1)
	if !found || end-symbol.Address > maxFunctionBytes {
		return 0, fmt.Errorf("%s in %s: %w", symbol.Name, symbol.Where(), ErrExtentUnknown)
	}
	return end, nil
}

// next returns the smallest address of any symbol that is not below address. A
// scan of all addresses takes less than sorting them would: few are asked for.
func (s *Symbols) next(address uint64) (uint64, bool) {
	best, found := ^uint64(0), false
	for _, a := range s.addresses {
		if a >= address && a <= best {
			best, found = a, true
		}
	}
	return best, found
}

func (s *Symbols) at(address uint64) bool {
	next, found := s.next(address)
	return found && next == address
}

// OneOf returns the function of exactly this name. The error wraps [ErrSymbolMissing] and
// names the parts and copies that the compiler left of it.
func OneOf(functions []Symbol, name string) (Symbol, error) {
	var left []string
	for _, symbol := range functions {
		if symbol.Name == name {
			return symbol, nil
		}
		if symbol.Base() == name {
			left = append(left, symbol.Name)
		}
	}
	if len(left) > 0 {
		return Symbol{}, fmt.Errorf("%s: %w (what is left of it: %s)", name, ErrSymbolMissing, strings.Join(left, ", "))
	}
	return Symbol{}, fmt.Errorf("%s: %w", name, ErrSymbolMissing)
}

// ParseSymbols reads the format of /proc/kallsyms.
func ParseSymbols(r io.Reader, want Wanted) (*Symbols, error) {
	parser := newSymbolParser(want)
	if err := eachLine(r, parser.line); err != nil {
		return nil, err
	}
	return &parser.symbols, nil
}

// Functions are all functions of a kernel and its modules by address, for the
// naming of return addresses. They are kept compactly: some 100,000 take 4 MB.
type Functions struct {
	places  []functionPlace // by address
	names   []byte          // one after the other
	modules []string        // the first is the kernel proper
}

type functionPlace struct {
	address uint64
	name    uint32 // where it begins in names
	length  uint16
	module  uint16
}

// ReadFunctions reads /proc/kallsyms. The error wraps [ErrAddressesHidden] if the
// kernel shows names only.
func ReadFunctions() (*Functions, error) {
	file, err := os.Open(kallsymsPath)
	if err != nil {
		return nil, fmt.Errorf("kernel functions: %w", err)
	}
	defer file.Close()
	return parseFunctions(file)
}

func parseFunctions(r io.Reader) (*Functions, error) {
	f := &Functions{places: make([]functionPlace, 0, 128<<10), names: make([]byte, 0, 3<<20), modules: []string{""}}
	seen := false
	err := eachLine(r, func(line []byte) error {
		symbol, place, err := parseLine(line)
		if err != nil || !place || !(Symbol{Type: symbol.kind}).Text() {
			return err
		}
		seen = seen || symbol.address != 0
		f.add(symbol)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !seen {
		return nil, fmt.Errorf("%s: %w", kallsymsPath, ErrAddressesHidden)
	}
	// Of several names for one address the first one stays first.
	slices.SortStableFunc(f.places, func(a, b functionPlace) int { return cmp.Compare(a.address, b.address) })
	return f, nil
}

func (f *Functions) add(symbol symbolLine) {
	// The symbols of a module come together.
	if module := string(symbol.module); module != "" && module != f.modules[len(f.modules)-1] {
		f.modules = append(f.modules, module)
	}
	place := functionPlace{address: symbol.address, name: uint32(len(f.names)), length: uint16(len(symbol.name))}
	if len(symbol.module) > 0 {
		place.module = uint16(len(f.modules) - 1)
	}
	f.places = append(f.places, place)
	f.names = append(f.names, symbol.name...)
}

// A Frame is one return address of a stack, named.
type Frame struct {
	Function string // empty if no function is known there
	Offset   uint64 // of the return address in the function; the address itself if there is none
	Module   string // empty for the kernel proper
}

// Frame names a return address: it belongs to the function that the byte before
// it is in, since a call may be the last instruction.
func (f *Functions) Frame(address uint64) Frame {
	i, exact := slices.BinarySearchFunc(f.places, address-1, func(p functionPlace, a uint64) int { return cmp.Compare(p.address, a) })
	if !exact {
		i--
	}
	if i < 0 || address-f.places[i].address > maxFunctionBytes {
		return Frame{Offset: address}
	}
	for i > 0 && f.places[i-1].address == f.places[i].address {
		i--
	}
	place := f.places[i]
	return Frame{
		Function: string(f.names[place.name : place.name+uint32(place.length)]),
		Offset:   address - place.address,
		Module:   f.modules[place.module],
	}
}

// String is the frame as the kernel prints it: function+0xoffset [module], or the
// bare address.
func (f Frame) String() string {
	offset := "0x" + strconv.FormatUint(f.Offset, 16)
	switch {
	case f.Function == "":
		return offset
	case f.Module == "":
		return f.Function + "+" + offset
	}
	return f.Function + "+" + offset + " [" + f.Module + "]"
}
