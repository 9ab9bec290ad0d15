//go:build xenlab

package netfront

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
			info, err := file.Stat()
			if err != nil {
				t.Fatal(err)
			}
			driver, err := ReadDriver(file, info.Size())
			if err != nil {
				t.Fatal(err)
			}
			answer, err := driver.Linearizes(t.Context())
			if err != nil || answer.Value != want {
				t.Errorf("%s: %s, error %v; want %s", answer.Value, answer.Evidence, err, want)
			}
			t.Logf("%s %s: %s", driver.Architecture, answer.Value, answer.Evidence)
			if without := driver.withoutLinearizer(t); without.Value != Drops {
				t.Errorf("with its calls going to another function: %s, %s", without.Value, without.Evidence)
			}
		})
	}
}

// withoutLinearizer asks again with the linearizer under another name.
func (f *File) withoutLinearizer(t *testing.T) Answer {
	t.Helper()
	for _, symbol := range f.Symbols.Functions(linearizeFunction) {
		for at, to := range f.Relocated {
			if to >= symbol.Address && to <= symbol.Address+8 {
				f.Relocated[at] = 0
			}
		}
	}
	answer, err := f.Linearizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
