package kernel

import (
	"os"
	"path/filepath"
	"testing"
)

func TestIsRealtime(t *testing.T) {
	for _, test := range []struct {
		name, version, sysfs string
		want                 bool
	}{
		{"Debian's RT kernel", "#1 SMP PREEMPT_RT Debian 6.12.107-1 (2026-10-02)", "", true},
		{"Debian's kernel", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1 (2026-10-02)", "", false},
		{"full preemption", "#7 SMP PREEMPT Thu Nov 26 10:00:00 UTC 2026", "", false},
		{"a version of its own, with RT", "#1 SMP", "1\n", true},
		{"a version of its own, without", "#1 SMP", "0\n", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "realtime")
			if test.sysfs != "" {
				if err := os.WriteFile(path, []byte(test.sysfs), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := isRealtime(test.version, path)
			if err != nil || got != test.want {
				t.Errorf("%t, %v, want %t", got, err, test.want)
			}
		})
	}
}
