package learn

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// memoryOf is kernel memory of a test: pieces by address.
type memoryOf map[uint64][]byte

func (m memoryOf) ReadCode(_ context.Context, address uint64, code []byte) error {
	for at, piece := range m {
		if address >= at && address+uint64(len(code)) <= at+uint64(len(piece)) {
			copy(code, piece[address-at:])
			return nil
		}
	}
	return errors.New("nothing there")
}

func image(numbers ...uint32) []byte {
	var image []byte
	for _, n := range numbers {
		image = binary.NativeEndian.AppendUint32(image, n)
	}
	return image
}

func TestPlaces(t *testing.T) {
	specimens := []specimen{{image: image(7, 1, 9, 7)}, {image: image(7, 2, 8, 0)}, {image: image(7, 3, 8, 0)}}
	tests := []struct {
		name   string
		size   int
		values []uint64
		want   []int
	}{
		{"one place", 4, []uint64{1, 2, 3}, []int{4}},
		{"none holds it in each", 4, []uint64{9, 8, 7}, nil},
		{"the same in all, once", 4, []uint64{7, 7, 7}, []int{0}},
		{"in two bytes of a number", 2, []uint64{1, 2, 3}, []int{4}},
		{"as one byte", 1, []uint64{0, 0, 0}, []int{1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15}},
		{"wider than the number", 8, []uint64{1<<32 | 7, 2<<32 | 7, 3<<32 | 7}, []int{0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := places(specimens, tt.size, equal(tt.values)); !slices.Equal(got, tt.want) {
				t.Errorf("at %v, want %v", got, tt.want)
			}
		})
	}
	if got := places(nil, 4, equal(nil)); got != nil {
		t.Errorf("no specimen: at %v, want nowhere", got)
	}
}

// A member has exactly one place, and the same by every experiment; else it is not certain.
func TestSettle(t *testing.T) {
	tests := []struct {
		name   string
		before Layout
		places []int
		sure   bool
	}{
		{"one place", nil, []int{8}, true},
		{"no place", nil, nil, false},
		{"two places", nil, []int{8, 24}, false},
		{"as before", Layout{"a.b": {8, 4}}, []int{8}, true},
		{"another than before", Layout{"a.b": {12, 4}}, []int{8}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			layout := Layout{}
			for name, place := range tt.before {
				layout[name] = place
			}
			err := layout.settle("a.b", 4, tt.places)
			if (err == nil) != tt.sure || err != nil && !errors.Is(err, ErrUnsure) {
				t.Errorf("%v, want certain: %v", err, tt.sure)
			}
			if got := layout["a.b"]; tt.sure && got != (Member{8, 4}) {
				t.Errorf("at %+v", got)
			}
		})
	}
}

// What is not mapped behind an object does not hide the object.
func TestMemoryAtTheEndOfAPage(t *testing.T) {
	const page = 0xffff888000003000
	m := memory{t.Context(), memoryOf{page: make([]byte, pageSize)}, make(map[uint64][]byte)}
	if got := len(m.at(page+pageSize-16, 64)); got != 16 {
		t.Errorf("%d bytes up to the end of the page, want 16", got)
	}
	if got := m.at(page+2*pageSize, 64); len(got) != 0 {
		t.Errorf("%d bytes of nothing, want none", len(got))
	}
	if m.word(page) != 0 || m.word(page+2*pageSize) != 0 {
		t.Error("a word of zeros, or of nothing, is not 0")
	}
}

func TestIsPointer(t *testing.T) {
	for word, want := range map[uint64]bool{
		0: false, 1 << 20: false, 0x7fff_ffff_f000: false, 0xffff_8880_0000_0000: true, 0xffff_ffff_8100_0000: true,
		0xffff_0000_0000_1000: true, 0xff11_0000_0000_1000: true, 0xfff0_0000_0000_1000: true, 0xffff_ffff_ffff_ffff: false, 0xffff_ffff_ffff_f001: false, 0xdead_0000_0000_0100: false,
	} {
		if isPointer(word) != want {
			t.Errorf("%#x: want %v", word, want)
		}
	}
}

func TestListsWhoseNeighboursReferBack(t *testing.T) {
	const a, b, c = 0xffff888000001000, 0xffff888000002000, 0xffff888000003000
	list := func(next, previous uint64) []byte {
		return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, next), previous)
	}
	l := lab{memory: memory{t.Context(), memoryOf{a: list(b, b), b: list(a, a), c: list(a, b)}, make(map[uint64][]byte)}}
	if !l.isList(a) || l.isList(c) || l.isList(0xffff888000009000) {
		t.Error("a list of two is one; what refers to it from outside, and nothing, are not")
	}
}

// An object that cannot be read, or not to its end, has no places: ^C makes all of them so.
func TestPart(t *testing.T) {
	whole := []byte{1, 2, 3, 4}
	for _, tt := range []struct {
		image        []byte
		offset, size int
		want         []byte
	}{
		{whole, 1, 2, []byte{2, 3}}, {whole, 2, 16, []byte{3, 4}}, {whole, 4, 1, nil}, {whole, 9, 16, nil}, {nil, 1, 16, nil},
	} {
		if got := part(tt.image, tt.offset, tt.size); !slices.Equal(got, tt.want) {
			t.Errorf("%d bytes of %v at %d: %v, want %v", tt.size, tt.image, tt.offset, got, tt.want)
		}
	}
}

// Each tap has a route of its own, whatever the lower bits of its index are.
func TestNetworksOfTapsDiffer(t *testing.T) {
	seen := make(map[byte]bool)
	for n := range 4 {
		for low := range 256 {
			network := (&tap{index: 0x10100*(n+1) + low}).network()
			if network&3 != byte(n+1)&3 {
				t.Fatalf("tap %d with index %d more: network %d", n, low, network)
			}
			seen[network] = true
		}
	}
	if len(seen) != 256 {
		t.Errorf("%d networks, want 256", len(seen))
	}
}
