package kernel

import (
	"os"
	"path/filepath"
	"testing"
)

func TestKprobesTakeSysAdmin(t *testing.T) {
	tests := []struct {
		name, text string
		want, fail bool
	}{
		{"everything is allowed", "-1\n", false, false},
		{"upstream's default", "2\n", false, false},
		{"Debian's default", "3\n", true, false},
		{"Ubuntu's default", "4\n", true, false},
		{"no number", "high\n", false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "perf_event_paranoid")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := kprobesTakeSysAdmin(path); got != test.want || (err != nil) != test.fail {
				t.Errorf("%t, %v; want %t, an error: %t", got, err, test.want, test.fail)
			}
		})
	}
	if _, err := kprobesTakeSysAdmin(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("a missing file is no error")
	}
}
