package procfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/memory"
)

func TestLongLinesAreSkipped(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"no line":               {"", nil},
		"without an end":        {"a\nb", []string{"a", "b"}},
		"the longest":           {"a\n" + long[1:] + "\nb\n", []string{"a", long[1:], "b"}},
		"a long one between":    {"a\n" + long + "\nb\n", []string{"a", "b"}},
		"a longer one":          {"a\n" + strings.Repeat(long, 5) + "y\nb\n", []string{"a", "b"}},
		"a long one at the end": {"a\n" + long + "x", []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for line, err := range Lines(strings.NewReader(test.text)) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(line))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%d lines, want %d", len(got), len(test.want))
			}
		})
	}
}

func TestLinesTakeLittleMemory(t *testing.T) {
	text := strings.NewReader(strings.Repeat("x", 16<<20) + "\nend\n")
	memory.Within(t, 256<<10, func() {
		n := 0
		for line := range Lines(text) {
			if n++; string(line) != "end" {
				t.Errorf("line of %d bytes", len(line))
			}
		}
		if n != 1 {
			t.Errorf("%d lines, want 1", n)
		}
	})
}

func TestReadErrorEndsTheLines(t *testing.T) {
	failure := errors.New("no such process")
	var last error
	for _, err := range Lines(iotest.ErrReader(failure)) {
		last = err
	}
	if !errors.Is(last, failure) {
		t.Errorf("error %v, want %v", last, failure)
	}
}

func TestFilesAreReadUpToALimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(path, 5); string(got) != "12345" || err != nil {
		t.Errorf("%q, error %v", got, err)
	}
	if _, err := ReadFile(path, 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want %v", err, ErrTooLarge)
	}
	memory.Within(t, 1<<20, func() {
		if _, err := ReadFile("/dev/zero", 64<<10); !errors.Is(err, ErrTooLarge) {
			t.Errorf("file without end: error %v, want %v", err, ErrTooLarge)
		}
	})
}

func FuzzStartTime(f *testing.F) {
	f.Add([]byte("1 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"))
	f.Add([]byte("1 (" + strings.Repeat(")", 4096)))
	f.Add([]byte("1 (a) S " + strings.Repeat("1 ", 4096)))
	f.Add([]byte("1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99999999999999999999 20"))
	f.Add([]byte("1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 922700000000 20")) // ns overflow
	f.Fuzz(func(t *testing.T, stat []byte) {
		memory.Within(t, 1<<20+uint64(len(stat))*32, func() {
			if started, ok := StartTime(stat); ok && started < 0 {
				t.Errorf("process started %v before the boot", -started)
			}
		})
	})
}

func TestStartTime(t *testing.T) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	at, ok := StartTime(text)
	if age := time.Duration(now.Nano()) - at; !ok || age < 0 || age > time.Hour {
		t.Errorf("this process began %v ago, %v", age, ok)
	}
	for _, stat := range []string{"", "1", "1 (a) S", "1 ((((", "1 (" + strings.Repeat(")", 100)} {
		if _, ok := StartTime([]byte(stat)); ok {
			t.Errorf("%q has a start", stat)
		}
	}
	at, ok = StartTime([]byte("7 (a) b) S " + strings.Repeat("1 ", 18) + "250 9"))
	if !ok || at != 2500*time.Millisecond {
		t.Errorf("start is %v, %v: want 2.5 s", at, ok)
	}
}
