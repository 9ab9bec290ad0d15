package userstack

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"xentrace/internal/elffile"
)

// Larger ones are not looked at: a name is not worth the time.
const (
	maxFileBytes  = 4 << 30
	maxTableBytes = 16 << 20 // of symbols, 24 bytes each
	maxNotes      = 4096     // bytes
	maxGap        = 64 << 10 // from a symbol without a size to an address in it
)

type symbol struct {
	name   string
	offset uint64 // of the address in the function
}

// look opens the file of a mapping and searches it. It uses no cache: it may run in another
// goroutine.
func (n *Namer) look(pid int, m *mapping, offsets []uint64) (learned, error) {
	file, err := n.open(pid, m)
	if err != nil {
		return learned{}, err
	}
	defer file.Close()
	l := learned{file: file.fileVersion, offsets: offsets, symbols: make([]symbol, len(offsets))}
	l.read = n.search(file, offsets, l.symbols)
	return l, nil
}

// search looks for the functions at offsets of the file, which are return addresses: in its
// table of symbols, in that of its debug file, and in what it offers to others. It returns
// how many bytes it read.
func (n *Namer) search(file *openFile, offsets []uint64, found []symbol) (read int) {
	own := counted{file: file}
	image, err := parseImage(&own, file.size)
	if err != nil {
		return own.read
	}
	addresses := make([]uint64, len(offsets))
	for i, offset := range offsets {
		addresses[i], _ = image.addressOf(offset - 1)
	}
	image.find(elf.SHT_SYMTAB, addresses, found)
	debug := counted{}
	if anyUnnamed(found) {
		if debug.file, err = n.openDebug(image.buildID()); err == nil {
			defer debug.file.Close()
			if image, err := parseImage(&debug, debug.file.size); err == nil {
				image.find(elf.SHT_SYMTAB, addresses, found)
			}
		}
	}
	if anyUnnamed(found) {
		image.find(elf.SHT_DYNSYM, addresses, found)
	}
	return own.read + debug.read
}

func anyUnnamed(found []symbol) bool {
	return slices.ContainsFunc(found, func(s symbol) bool { return s.name == "" })
}

// counted counts what is read of a file, and each read as readWork bytes.
type counted struct {
	file *openFile
	read int
}

const readWork = 512

func (c *counted) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.file.ReadAt(b, at)
	c.read += n + readWork
	return n, err
}

func (n *Namer) openDebug(build []byte) (*openFile, error) {
	if len(build) < 2 {
		return nil, os.ErrNotExist
	}
	name := hex.EncodeToString(build)
	path := n.debug + "/.build-id/" + name[:2] + "/" + name[2:] + ".debug" // often a link
	place, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("debug file: %w", err)
	}
	defer func() { _ = unix.Close(place) }()
	return reopen(place, path, 0)
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

// find looks for the function that each address is in, unless found has it already; 0 is no
// address.
func (i *image) find(kind elf.SectionType, addresses []uint64, found []symbol) {
	table := i.OfType(kind)
	if table == nil || !table.HasContent() || table.Size > maxTableBytes {
		return
	}
	names := i.Linked(table, elf.SHT_STRTAB)
	if names == nil {
		return
	}
	best, err := i.closest(table, addresses)
	if err != nil {
		return
	}
	for n, s := range best {
		if found[n].name == "" && s.Name != 0 {
			found[n] = symbol{name: i.String(names, s.Name), offset: addresses[n] - s.Value}
		}
	}
}

// closest returns the function that each address is in: of several the last that begins
// before it, and of those at one place the first. One without a name is none.
func (i *image) closest(table *elffile.Section, addresses []uint64) ([]elffile.Symbol, error) {
	best := make([]elffile.Symbol, len(addresses))
	err := i.Symbols(table, func(s elffile.Symbol) error {
		if !isFunction(s) {
			return nil
		}
		for n, address := range addresses {
			if holds(s, address) && (best[n].Name == 0 || s.Value > best[n].Value) {
				best[n] = s
			}
		}
		return nil
	})
	return best, err
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
