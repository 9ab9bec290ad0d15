package trace

import (
	"os/exec"
	"testing"

	"xentrace/test/need"
	"xentrace/test/unshared"
)

// One interface that is named twice, by its alternative name too, is one.
func TestFindKnowsAnInterfaceByItsOtherName(t *testing.T) {
	need.Tool(t, "ip")
	unshared.Do(t, func() {
		if out, err := exec.Command("ip", "link", "property", "add", "dev", "lo", "altname", "loopback0").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		found, err := selector{[]string{"lo", "loopback0", "lo"}}.find(t.Context())
		if err != nil || len(found) != 1 || found[0].Name != "lo" {
			t.Errorf("found %v (%v), want lo once", found, err)
		}
	})
}
