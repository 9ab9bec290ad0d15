//go:build xenlab

package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Real drivers, of Debian and variants: every .ko, compressed or not, in the directory that
// test/xen/driver-files made. The file's name begins with what the driver does.
func TestDriverFiles(t *testing.T) {
	directory := os.Getenv("XENTRACE_DRIVER_FILES")
	files, err := filepath.Glob(filepath.Join(directory, "[dl]*.ko*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no driver in XENTRACE_DRIVER_FILES=%q (%v): this runs in test/xen/driver-files", directory, err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			want := Linearizes
			if strings.HasPrefix(name, "drops-") {
				want = Drops
			}
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			image, err := ReadDriver(file)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := image.Linearizes(t.Context())
			if err != nil || answer.Value != want {
				t.Errorf("%s: %s, error %v; want %s", answer.Value, answer.Evidence, err, want)
			}
			t.Logf("%s %s: %s", image.Architecture, answer.Value, answer.Evidence)
			if without := image.withoutLinearizer(t); without.Value != Drops {
				t.Errorf("with its calls going to another function: %s, %s", without.Value, without.Evidence)
			}
		})
	}
}

// withoutLinearizer asks again with the linearizer at another place than where the
// driver's calls go.
func (i *Image) withoutLinearizer(t *testing.T) Answer {
	t.Helper()
	for n := range i.symbols.kept {
		if symbol := &i.symbols.kept[n]; symbol.Name == linearizeFunction {
			other := *symbol
			other.Name, symbol.Address = "another_function", importBase-importStride
			i.symbols.kept = append(i.symbols.kept, other)
			break
		}
	}
	answer, err := i.Linearizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
