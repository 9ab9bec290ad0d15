package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A symbolParser turns the lines of /proc/kallsyms into Symbols. It allocates for
// the lines that are wanted only: a kernel has some 200,000.
type symbolParser struct {
	symbols  Symbols
	names    map[string]bool
	modules  map[string]bool
	prefixes [][]byte
	contains [][]byte
}

func newSymbolParser(want Wanted) *symbolParser {
	p := &symbolParser{names: map[string]bool{}, modules: map[string]bool{}}
	p.symbols.addresses = make([]uint64, 0, 160<<10)
	for _, name := range want.Names {
		base, _, _ := strings.Cut(name, ".")
		p.names[base] = true
	}
	for _, module := range want.Modules {
		p.modules[module] = true
	}
	for _, prefix := range want.Prefixes {
		p.prefixes = append(p.prefixes, []byte(prefix))
	}
	for _, part := range want.Contains {
		p.contains = append(p.contains, []byte(part))
	}
	return p
}

// maxKallsymsBytes bounds /proc/kallsyms: a kernel has some 12 MiB.
const maxKallsymsBytes = 128 << 20

// eachLine calls f with every line of /proc/kallsyms, which is valid until it
// returns.
func eachLine(r io.Reader, f func(line []byte) error) error {
	buffer := make([]byte, 64<<10)
	filled, left := 0, maxKallsymsBytes
	for {
		n, err := r.Read(buffer[filled:])
		if left -= n; left < 0 {
			return fmt.Errorf("%s: over %d MiB", kallsymsPath, maxKallsymsBytes>>20)
		}
		filled += n
		text := buffer[:filled]
		for end := bytes.IndexByte(text, '\n'); end >= 0; end = bytes.IndexByte(text, '\n') {
			if err := f(text[:end]); err != nil {
				return err
			}
			text = text[end+1:]
		}
		switch {
		case errors.Is(err, io.EOF) && len(text) > 0:
			return f(text)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", kallsymsPath, err)
		case len(text) == len(buffer):
			return fmt.Errorf("%s: line longer than %d bytes", kallsymsPath, len(buffer))
		}
		filled = copy(buffer, text)
	}
}

// A symbolLine is one line of /proc/kallsyms, not copied.
type symbolLine struct {
	address      uint64
	kind         byte
	name, module []byte
}

// parseLine takes "ADDRESS TYPE NAME" with an optional "\t[MODULE]" behind it
// apart. place is false for absolute symbols, which are numbers, and for the
// assembler's marks inside functions (arm64), whose names begin with $.
func parseLine(line []byte) (symbol symbolLine, place bool, err error) {
	address, digits := parseHex(line)
	if digits == 0 || len(line) < digits+4 || line[digits] != ' ' || line[digits+2] != ' ' {
		return symbol, false, fmt.Errorf("%s: line %q is not understood", kallsymsPath, line)
	}
	symbol = symbolLine{address: address, kind: line[digits+1], name: line[digits+3:]}
	if end := len(symbol.name) - 1; symbol.name[end] == ']' {
		if name, module, is := bytes.Cut(symbol.name[:end], []byte("\t[")); is && len(name) > 0 {
			symbol.name, symbol.module = name, module
		}
	}
	return symbol, symbol.kind != 'a' && symbol.kind != 'A' && symbol.name[0] != '$', nil
}

func (p *symbolParser) line(line []byte) error {
	symbol, place, err := parseLine(line)
	if err != nil || !place {
		return err
	}
	p.symbols.addresses = append(p.symbols.addresses, symbol.address)
	p.symbols.seen = p.symbols.seen || symbol.address != 0
	if p.wanted(symbol.name, symbol.module) {
		p.symbols.kept = append(p.symbols.kept, Symbol{
			Name: string(symbol.name), Address: symbol.address, Type: symbol.kind, Module: string(symbol.module),
		})
	}
	return nil
}

func (p *symbolParser) wanted(name, module []byte) bool {
	if len(module) > 0 && p.modules[string(module)] {
		return true
	}
	base := name
	if len(base) > 6 && base[0] == '_' && (string(base[:6]) == "__pfx_" || string(base[:6]) == "__cfi_") {
		base = base[6:]
	}
	if dot := bytes.IndexByte(base, '.'); dot > 0 {
		base = base[:dot]
	}
	if p.names[string(base)] {
		return true
	}
	for _, prefix := range p.prefixes {
		if bytes.HasPrefix(name, prefix) {
			return true
		}
	}
	for _, part := range p.contains {
		if bytes.Contains(name, part) {
			return true
		}
	}
	return false
}

func parseHex(text []byte) (value uint64, digits int) {
	for digits < len(text) && digits < 16 {
		c := text[digits]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return value, digits
		}
		value = value<<4 | uint64(c)
		digits++
	}
	return value, digits
}
