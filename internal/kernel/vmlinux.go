package kernel

import (
	"debug/elf"
	"fmt"
)

// readKernel reads a linked kernel: its calls already say where they go.
func (i *Image) readKernel(object *elf.File) error {
	for index, section := range object.Sections {
		if !isCode(section) || section.Flags&elf.SHF_COMPRESSED != 0 {
			continue
		}
		i.placed[elf.SectionIndex(index)] = section.Addr
		i.sections = append(i.sections, imageSection{address: section.Addr, size: section.Size, file: section.ReaderAt})
		i.symbols.addresses = append(i.symbols.addresses, section.Addr+section.Size)
	}
	if len(i.sections) == 0 {
		return fmt.Errorf("%w: it has no code", ErrNotADriver)
	}
	table, err := symbolTable(object)
	if err != nil {
		return err
	}
	i.symbols.seen = true
	wanted := newSymbolParser(LinearizeSymbols())
	for _, entry := range table {
		if _, inCode := i.placed[entry.Section]; !inCode || elf.ST_TYPE(entry.Info) == elf.STT_SECTION || !named(entry.Name) {
			continue
		}
		i.symbols.addresses = append(i.symbols.addresses, entry.Value)
		if wanted.wanted([]byte(entry.Name), nil) {
			i.symbols.kept = append(i.symbols.kept, Symbol{Name: entry.Name, Address: entry.Value, Type: 't'})
		}
	}
	return nil
}
