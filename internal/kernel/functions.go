package kernel

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

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
