package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"
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

	// ErrExtentUnknown means that no symbol above a function tells where it ends.
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

// Where says in words where the symbol lives.
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
// others, which tell where a function ends.
type Symbols struct {
	kept      []Symbol
	addresses []uint64 // of every symbol, in the order of the file
	seen      bool     // one address at least is not zero
}

// ReadSymbols reads /proc/kallsyms once. Hidden addresses are no error here: the
// names alone tell which functions exist. See [Symbols.Addresses].
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

// Variants returns the parts and copies that the compiler made of the function:
// its name followed by .cold, .part.N, .isra.N, .constprop.N and the like. The
// function itself is not among them.
func (s *Symbols) Variants(name string) []Symbol {
	return s.Select(func(symbol Symbol) bool {
		return symbol.Name != name && symbol.Base() == name
	})
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
