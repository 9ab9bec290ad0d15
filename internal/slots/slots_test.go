package slots

import (
	"encoding/json"
	"os"
	"testing"
)

// The vectors that the BPF programs are tested with.
func TestSlotsOfVectors(t *testing.T) {
	text, err := os.ReadFile("../../bpf/testdata/slot_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name       string
		HeadOffset uint32 `json:"head_off"`
		HeadLen    uint32 `json:"head_len"`
		Frags      [][2]uint32
		Slots      uint32
		Rocket     bool
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 20 {
		t.Fatalf("%d vectors, want 20", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			got := Of(v.HeadOffset, v.HeadLen)
			for _, f := range v.Frags {
				got += Of(f[0], f[1])
			}
			if got != v.Slots || got > Limit != v.Rocket {
				t.Errorf("%d slots, over the limit %v: want %d, %v", got, got > Limit, v.Slots, v.Rocket)
			}
		})
	}
}

func TestOfLargestRange(t *testing.T) {
	// The sum exceeds 32 bits before it is divided.
	if got := Of(4095, 1<<32-1); got != 1<<20+1 {
		t.Errorf("%d slots, want %d", got, 1<<20+1)
	}
}
