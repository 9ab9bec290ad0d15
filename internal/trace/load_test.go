package trace

import (
	"bytes"
	"context"
	"testing"

	"xentrace/internal/kernel"
	"xentrace/test/need"
)

// Two readings of the same kernel function, one in a single chunk and one in
// pieces across a page boundary, agree and are not empty.
func TestReadCode(t *testing.T) {
	need.Root(t, "to read the kernel's code")
	symbols, err := kernel.ReadSymbols(kernel.Wanted{Names: []string{"dev_hard_start_xmit"}})
	if err != nil {
		t.Fatal(err)
	}
	found := symbols.Lookup("dev_hard_start_xmit")
	if len(found) != 1 || found[0].Address == 0 {
		t.Fatalf("dev_hard_start_xmit: %v, want its address", found)
	}
	reader, err := newCodeReader(kernel.NewTypes())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	whole := make([]byte, 2*codeChunk)
	if err := reader.ReadCode(context.Background(), found[0].Address, whole); err != nil {
		t.Fatal(err)
	}
	var pieces []byte
	for i := range 16 {
		piece := make([]byte, len(whole)/16)
		if err := reader.ReadCode(context.Background(), found[0].Address+uint64(i*len(piece)), piece); err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, piece...)
	}
	if !bytes.Equal(whole, pieces) {
		t.Error("the same code read whole and in pieces differs")
	}
	if bytes.Count(whole, []byte{0}) == len(whole) {
		t.Error("the code is all zeros")
	}
	if err := reader.ReadCode(context.Background(), 8, whole[:8]); err == nil {
		t.Error("address 8 was read: want an error")
	}
}
