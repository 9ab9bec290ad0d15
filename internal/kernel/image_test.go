package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDriverFiles reads real drivers: every .ko in the directory that the
// environment variable names. A file whose name contains "prefix" is the driver
// as it was before the fix; all others linearize.
func TestDriverFiles(t *testing.T) {
	directory := os.Getenv("XENTRACE_DRIVER_FILES")
	if directory == "" {
		t.Skip("XENTRACE_DRIVER_FILES names no directory of drivers")
	}
	files, err := filepath.Glob(filepath.Join(directory, "*.ko"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no *.ko in %s (%v)", directory, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			want := Linearizes
			if strings.Contains(filepath.Base(name), "prefix") {
				want = Drops
			}
			file, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			image, err := ReadImage(file)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := image.Linearizes(t.Context())
			if err != nil || answer.Value != want {
				t.Errorf("%s: %s, error %v; want %s", answer.Value, answer.Evidence, err, want)
			}
			t.Logf("%s: %s", answer.Value, answer.Evidence)
		})
	}
}
