package trace

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"xentrace/internal/netdev"
	"xentrace/test/need"
)

func TestWhatIsNotMounted(t *testing.T) {
	for name, test := range map[string]struct {
		files []string
		want  string
	}{
		"both":     {[]string{"proc/self/status", "sys/kernel/btf/vmlinux"}, ""},
		"no BTF":   {[]string{"proc/self/status", "sys/kernel/mm/x"}, ""},
		"no /sys":  {[]string{"proc/self/status", "sys/.keep"}, "there is no /sys: mount it"},
		"no /proc": {[]string{"sys/kernel/btf/vmlinux"}, "there is no /proc: mount it"},
		"neither":  {nil, "there is no /proc: mount it"},
	} {
		root := fstest.MapFS{}
		for _, file := range test.files {
			root[file] = &fstest.MapFile{}
		}
		err := mounted(root)
		if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
		if strings.Contains(test.want, "/proc") && !errors.Is(err, netdev.ErrNoProc) {
			t.Errorf("%s: %v is not ErrNoProc", name, err)
		}
	}
}

// Each kernel that the tests run on has one, whatever its release is.
func TestRingBufferIsTried(t *testing.T) {
	need.Root(t, "to make BPF maps")
	if err := tryRingBuffer(); err != nil {
		t.Error(err)
	}
}
