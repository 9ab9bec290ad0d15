package bpf

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"
)

// Every bound of a bucket and what lies beside it, by the header compiled for the host.
func TestLog2HeaderOnHost(t *testing.T) {
	values := []uint64{0, 1, 2, 3, 1<<64 - 1}
	for shift := 2; shift < 64; shift++ {
		values = append(values, 1<<shift-1, 1<<shift, 1<<shift+1)
	}
	var source strings.Builder
	source.WriteString("#include <stdio.h>\n#include \"slots.h\"\nint main(void)\n{\n")
	for _, v := range values {
		fmt.Fprintf(&source, "\tprintf(\"%%llu\\n\", log2_bucket(%dull));\n", v)
	}
	for v := range uint64(257) { // by the table
		values = append(values, v)
		fmt.Fprintf(&source, "\tprintf(\"%%d\\n\", log2_buckets[%d]);\n", v)
	}
	source.WriteString("\treturn 0;\n}\n")
	lines := runOnHost(t, source.String())
	if len(lines) != len(values) {
		t.Fatalf("%d lines for %d values", len(lines), len(values))
	}
	for i, v := range values {
		want := 0
		if v > 0 {
			want = 1 + bits.Len64(v-1)
		}
		if lines[i] != fmt.Sprint(want) {
			t.Errorf("%d is in bucket %s, want %d", v, lines[i], want)
		}
	}
}
