package leak

import (
	"os"
	"slices"
	"testing"
)

func TestOpened(t *testing.T) {
	before := Descriptors{"/dev/null": 1, "socket:[1]": 1, "socket:[2]": 1}
	now := Descriptors{"/dev/null": 3, "socket:[2]": 1, "socket:[3]": 1}
	if got, want := before.opened(now), []string{"1 socket:[3]", "2 /dev/null"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q: what was closed does not make up for what was opened", got, want)
	}
	if got := now.opened(now); got != nil {
		t.Errorf("%q, want nothing", got)
	}
}

func TestLeft(t *testing.T) {
	before := Open(t)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := before.opened(list(t)), []string{"1 " + file.Name()}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if left := before.Left(t); left != nil {
		t.Errorf("%q, want nothing", left)
	}
}
