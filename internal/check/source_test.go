package check

import (
	"os/exec"
	"testing"

	"xentrace/test/need"
	"xentrace/test/unshared"
)

// One interface that is named twice, by its alternative name too, is one.
func TestLinksOfAnInterfaceByBothNames(t *testing.T) {
	need.Tool(t, "ip")
	unshared.Do(t, func() {
		if out, err := exec.Command("ip", "link", "property", "add", "dev", "lo", "altname", "loopback0").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		links, err := readLinks(t.Context(), []string{"lo", "loopback0"})
		if err != nil || len(links.Judged) != 1 || links.Judged[0].Name != "lo" {
			t.Errorf("%d interfaces (%v), want lo once", len(links.Judged), err)
		}
	})
}
