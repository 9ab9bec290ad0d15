package bpf

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"xentrace/test/need"
)

// slotVector is one packet whose slots were worked out by hand from the
// driver's source.
type slotVector struct {
	Name       string
	PageSize   uint32     `json:"page_size"`
	HeadOffset uint32     `json:"head_off"`
	HeadLen    uint32     `json:"head_len"`
	Frags      []fakeFrag `json:"frags"`
	Len        uint32
	Slots      uint32
	Rocket     bool
	TooBig     bool `json:"too_big"`
	Bounce     bool `json:"lt_eth_hlen"`
}

func slotVectors(t *testing.T) []slotVector {
	t.Helper()
	text, err := os.ReadFile("testdata/slot_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []slotVector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 20 {
		t.Fatalf("%d vectors, want 20", len(vectors))
	}
	return vectors
}

// dataAt returns an address whose offset in its page is the vector's.
func (v slotVector) dataAt(a *arena) uint64 {
	base := (a.address + atHead) &^ uint64(v.PageSize-1)
	return base + uint64(v.PageSize) + uint64(v.HeadOffset)
}

// Every vector, through the program that counts real packets, with both ways of
// reading kernel memory.
func TestSlotsOfFakePackets(t *testing.T) {
	a := newArena(t)
	a.device()
	for _, typed := range waysOfReading(t, a) {
		for _, pageSize := range []uint32{4096, 65536} {
			p := loadPrograms(t, a, XentraceConfiguration{
				PageSize: pageSize, TypedReads: typed, DriverHooks: 1,
				PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
			})
			for _, v := range slotVectors(t) {
				if v.PageSize != pageSize {
					continue
				}
				t.Run(fmt.Sprintf("%s typed %d", v.Name, typed), func(t *testing.T) {
					a.t, p.t = t, t
					a.packet(atSkb, v.dataAt(a), v.HeadLen, v.Frags)
					a.flush()
					p.begin(atSkb)
					p.end(atSkb)
					c := p.counted(fakeSlotID)
					var over, linearized uint64
					if v.Rocket {
						over, linearized = 1, 1
					}
					slots := v.Slots
					if v.Len == v.HeadLen {
						// The fragments of a linear packet, empty ones too, are not looked at.
						slots = (v.HeadOffset%4096 + v.HeadLen + 4095) / 4096
					}
					if c.Slots[slots] != 1 || c.Bytes != uint64(v.Len) || c.OverLimit != over || c.Linearized != linearized {
						t.Errorf("slots %v, bytes %d, over limit %d, linearized %d: want 1 packet of %d slots and %d bytes, %d over the limit",
							nonZero(c.Slots[:]), c.Bytes, c.OverLimit, c.Linearized, slots, v.Len, over)
					}
				})
			}
		}
	}
}

// waysOfReading returns 0, probe reads, and 1, plain loads, which need
// bpf_rdonly_cast (6.2).
func waysOfReading(t *testing.T, a *arena) []uint8 {
	t.Helper()
	var function *btf.Func
	if err := a.types.TypeByName("bpf_rdonly_cast", &function); err != nil {
		t.Logf("probe reads only: %v", err)
		return []uint8{0}
	}
	return []uint8{0, 1}
}

func nonZero(counts []uint64) map[int]uint64 {
	m := make(map[int]uint64)
	for i, n := range counts {
		if n != 0 {
			m[i] = n
		}
	}
	return m
}

// runOnHost compiles a C program for the host and returns the lines that it prints.
func runOnHost(t *testing.T, source string) []string {
	t.Helper()
	need.Tool(t, "cc")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "program")
	compile := exec.Command("cc", "-Wall", "-Wextra", "-Werror", "-I", here, "-x", "c", "-o", binary, "-")
	compile.Stdin = strings.NewReader(source)
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// The same arithmetic, compiled for the host.
func TestSlotHeaderOnHost(t *testing.T) {
	var source strings.Builder
	source.WriteString("#include <stdio.h>\n#include \"slots.h\"\nint main(void)\n{\n")
	vectors := slotVectors(t)
	for _, v := range vectors {
		fmt.Fprintf(&source, "\tprintf(\"%%u %%d\\n\", slots_of(%du, %du)", v.HeadOffset, v.HeadLen)
		for _, f := range v.Frags {
			fmt.Fprintf(&source, " + slots_of(%du, %du)", f[0], f[1])
		}
		fmt.Fprintf(&source, ", head_wants_bounce(%du, %du));\n", v.HeadOffset, v.PageSize)
	}
	source.WriteString("\treturn 0;\n}\n")
	lines := runOnHost(t, source.String())
	if len(lines) != len(vectors) {
		t.Fatalf("%d lines for %d vectors", len(lines), len(vectors))
	}
	for i, v := range vectors {
		bounce := 0
		if v.Bounce {
			bounce = 1
		}
		if want := fmt.Sprintf("%d %d", v.Slots, bounce); lines[i] != want {
			t.Errorf("%s: slots and bounce %s, want %s", v.Name, lines[i], want)
		}
	}
}
