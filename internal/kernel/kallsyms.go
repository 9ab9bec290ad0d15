package kernel

import (
	"bytes"
	"fmt"
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

// lines parses every complete line and returns the incomplete rest.
func (p *symbolParser) lines(text []byte) (rest []byte, err error) {
	for {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			return text, nil
		}
		if err := p.line(text[:end]); err != nil {
			return nil, err
		}
		text = text[end+1:]
	}
}

func (p *symbolParser) finish(rest []byte) (*Symbols, error) {
	if len(rest) > 0 {
		if err := p.line(rest); err != nil {
			return nil, err
		}
	}
	return &p.symbols, nil
}

// line parses "ADDRESS TYPE NAME" with an optional "\t[MODULE]" behind it.
func (p *symbolParser) line(line []byte) error {
	address, digits := parseHex(line)
	if digits == 0 || len(line) < digits+4 || line[digits] != ' ' || line[digits+2] != ' ' {
		return fmt.Errorf("%s: line %q is not understood", kallsymsPath, line)
	}
	kind, name := line[digits+1], line[digits+3:]
	var module []byte
	if name[len(name)-1] == ']' {
		if tab := bytes.IndexByte(name, '\t'); tab > 0 {
			name, module = name[:tab], name[tab+2:len(name)-1]
		}
	}
	// Absolute symbols are numbers, not places; names that begin with $ are the
	// assembler's marks inside functions (arm64).
	if kind == 'a' || kind == 'A' || name[0] == '$' {
		return nil
	}
	p.symbols.addresses = append(p.symbols.addresses, address)
	p.symbols.seen = p.symbols.seen || address != 0
	if p.wanted(name, module) {
		p.symbols.kept = append(p.symbols.kept, Symbol{
			Name: string(name), Address: address, Type: kind, Module: string(module),
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

// parseHex reads the digits a line begins with.
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
