package userstack

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"xentrace/internal/elffile"
)

// Larger ones are not looked at: a name is not worth the time.
const (
	maxFileBytes  = 4 << 30
	maxTableBytes = 32 << 20 // of symbols, 24 bytes each
	maxNotes      = 4096     // bytes
	maxGap        = 64 << 10 // from a symbol without a size to an address in it
)

type symbol struct {
	name   string
	offset uint64 // of the address in the function
}

// search looks for the function at an offset of the file: in its table of symbols, in
// that of its debug file, and in what it offers to others.
func (n *Namer) search(file *openFile, offset uint64) (symbol, bool) {
	image, err := parseImage(file, file.size)
	if err != nil {
		return symbol{}, false
	}
	address, ok := image.addressOf(offset)
	if !ok {
		return symbol{}, false
	}
	if s, found := image.find(elf.SHT_SYMTAB, address); found {
		return s, true
	}
	if debug, err := n.openDebug(image.buildID()); err == nil {
		defer debug.Close()
		if image, err := parseImage(debug, debug.size); err == nil {
			if s, found := image.find(elf.SHT_SYMTAB, address); found {
				return s, true
			}
		}
	}
	return image.find(elf.SHT_DYNSYM, address)
}

func (n *Namer) openDebug(build []byte) (*openFile, error) {
	if len(build) < 2 {
		return nil, os.ErrNotExist
	}
	name := hex.EncodeToString(build)
	return openBelow("/", n.debug+"/.build-id/"+name[:2]+"/"+name[2:]+".debug", 0)
}

type image struct{ *elffile.File }

var errTooLarge = errors.New("larger than is looked at")

func parseImage(reader io.ReaderAt, size int64) (*image, error) {
	if size > maxFileBytes {
		return nil, errTooLarge
	}
	file, err := elffile.Read(reader, size)
	if err != nil {
		return nil, err
	}
	return &image{file}, nil
}

// addressOf returns where an offset of the file is loaded, before relocation.
func (i *image) addressOf(offset uint64) (uint64, bool) {
	for _, p := range i.Segments {
		if p.Type == elf.PT_LOAD && offset >= p.Offset && offset-p.Offset < p.FileSize {
			return offset - p.Offset + p.Address, true
		}
	}
	return 0, false
}

// buildID returns the number that ties a program to its debug file; nil without one.
func (i *image) buildID() []byte {
	section := i.Named(".note.gnu.build-id")
	if section == nil {
		return nil
	}
	note, err := i.Content(section, maxNotes)
	if err != nil {
		return nil
	}
	const header = 16 // three numbers, and "GNU"
	if len(note) <= header || string(note[12:16]) != "GNU\x00" {
		return nil
	}
	length := i.Order.Uint32(note[4:])
	if uint64(length) > uint64(len(note)-header) {
		return nil
	}
	return note[header : header+length]
}

func (i *image) find(kind elf.SectionType, address uint64) (symbol, bool) {
	table := i.OfType(kind)
	if table == nil || !table.HasContent() || table.Size > maxTableBytes {
		return symbol{}, false
	}
	names := i.Linked(table, elf.SHT_STRTAB)
	if names == nil {
		return symbol{}, false
	}
	best, found := i.closest(table, address)
	if !found {
		return symbol{}, false
	}
	name := i.String(names, best.Name)
	return symbol{name: name, offset: address - best.Value}, name != ""
}

// closest returns the function that an address is in: of several the last that begins
// before it, and of those at one place the first.
func (i *image) closest(table *elffile.Section, address uint64) (best elffile.Symbol, found bool) {
	err := i.Symbols(table, func(s elffile.Symbol) error {
		if isFunction(s) && holds(s, address) && (!found || s.Value > best.Value) {
			best, found = s, true
		}
		return nil
	})
	return best, found && err == nil
}

func isFunction(s elffile.Symbol) bool {
	kind := elf.ST_TYPE(s.Info)
	function := kind == elf.STT_FUNC || kind == elf.STT_GNU_IFUNC || kind == elf.STT_NOTYPE && s.Size == 0
	return function && s.Name != 0 && s.Value != 0 && s.Section != elf.SHN_UNDEF
}

func holds(s elffile.Symbol, address uint64) bool {
	if address < s.Value {
		return false
	}
	if s.Size == 0 {
		return address-s.Value < maxGap
	}
	return address-s.Value < s.Size
}
