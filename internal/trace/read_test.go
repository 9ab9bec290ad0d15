package trace

import "testing"

func TestRingByMemory(t *testing.T) {
	const mebibyte = 1 << 20
	for _, test := range []struct {
		name   string
		memory uint64
		want   int
	}{
		{"512 MiB", 490 * mebibyte, 4 * mebibyte},
		{"4 GiB", 3900 * mebibyte, 4 * mebibyte},
		{"8 GiB", 7800 * mebibyte, 8 * mebibyte},
		{"16 GiB", 15800 * mebibyte, 16 * mebibyte},
		{"1 TiB", 1 << 40, 16 * mebibyte},
		{"none", 0, 4 * mebibyte},
	} {
		if got := ringFor(test.memory); got != test.want {
			t.Errorf("%s: %d bytes, want %d", test.name, got, test.want)
		}
	}
	if got := DefaultRing(); got < DefaultRingBytes || got > largestRing || got&(got-1) != 0 {
		t.Errorf("%d bytes here", got)
	}
}
