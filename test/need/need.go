// Package need skips a test where the machine lacks what it needs, and says what.
// With XENTRACE_REQUIRE_ALL=1, as "make test" sets, such a test fails instead.
package need

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Variable is the environment variable that turns each skip into a failure.
const Variable = "XENTRACE_REQUIRE_ALL"

// Required reports whether everything is required.
func Required() bool { return os.Getenv(Variable) == "1" }

// Root skips the test unless it runs as root. why says what for.
func Root(t testing.TB, why string) {
	t.Helper()
	That(t, os.Geteuid() == 0, "root: %s", why)
}

// Tool skips the test unless each program is in PATH.
func Tool(t testing.TB, names ...string) {
	t.Helper()
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	That(t, len(missing) == 0, "%s (make deps installs it)", strings.Join(missing, ", "))
}

// File skips the test unless the file is there.
func File(t testing.TB, path string) {
	t.Helper()
	_, err := os.Stat(path)
	That(t, err == nil, "%s (make deps makes it)", path)
}

// Kernel skips the test if err, what the running kernel answered when asked for a
// feature, is not nil.
func Kernel(t testing.TB, feature string, err error) {
	t.Helper()
	That(t, err == nil, "a kernel with %s: %v", feature, err)
}

// That skips the test unless it is there; format says what "needs" is followed by.
func That(t testing.TB, there bool, format string, args ...any) {
	t.Helper()
	switch {
	case there:
	case Required():
		t.Fatalf("needs "+format, args...)
	default:
		t.Skipf("needs "+format, args...)
	}
}

// Asked skips the test unless an environment variable asks for it, which the make target
// sets: it takes too long for every run.
func Asked(t testing.TB, variable, target string) {
	t.Helper()
	if os.Getenv(variable) == "" {
		t.Skipf("%s runs it", target)
	}
}
