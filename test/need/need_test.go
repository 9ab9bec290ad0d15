package need

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// outcome is a testing.TB that notes how it was ended.
type outcome struct {
	testing.TB
	skipped, failed string
}

func (o *outcome) Helper()                        {}
func (o *outcome) Skipf(format string, a ...any)  { o.skipped = fmt.Sprintf(format, a...) }
func (o *outcome) Fatalf(format string, a ...any) { o.failed = fmt.Sprintf(format, a...) }

func TestLackingSkipsOrFails(t *testing.T) {
	for name, test := range map[string]struct {
		ask  func(testing.TB)
		says string
	}{
		"tool":        {func(t testing.TB) { Tool(t, "go", "no-such-tool", "nor-this") }, "needs no-such-tool, nor-this (make deps installs it)"},
		"tools there": {func(t testing.TB) { Tool(t, "go") }, ""},
		"file":        {func(t testing.TB) { File(t, "/no/such/file") }, "needs /no/such/file (make deps makes it)"},
		"file there":  {func(t testing.TB) { File(t, "/proc/self/exe") }, ""},
		"kernel":      {func(t testing.TB) { Kernel(t, "huge pages", errors.New("none")) }, "needs a kernel with huge pages: none"},
		"feature":     {func(t testing.TB) { Kernel(t, "huge pages", nil) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(Variable, "")
			var o outcome
			if test.ask(&o); o.skipped != test.says || o.failed != "" {
				t.Errorf("skipped with %q, failed with %q, want it skipped with %q", o.skipped, o.failed, test.says)
			}
			t.Setenv(Variable, "1")
			o = outcome{}
			if test.ask(&o); o.failed != test.says || o.skipped != "" {
				t.Errorf("all required: skipped with %q, failed with %q, want it failed with %q", o.skipped, o.failed, test.says)
			}
		})
	}
}

// A skip that is not made here is none that "make test" turns into a failure. The tests in
// a guest are left out: which of them apply depends on the guest's driver.
func TestNoTestSkipsByItself(t *testing.T) {
	skip := regexp.MustCompile(`\b[bft]\.Skip(f|Now)?\(`)
	files := 0
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || path == "../../build" || path == "../../test/need" || path == "../../test/xen"):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		files++
		text, err := os.ReadFile(path)
		if found := skip.Find(text); found != nil {
			t.Errorf("%s: %s...), want a function of this package", path, found)
		}
		return err
	})
	if err != nil || files < 100 {
		t.Errorf("%d files, error %v", files, err)
	}
}
