package check

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// A backend that names a path that cannot be read hides no other backend.
func TestBackendWithAPathThatCannotBeRead(t *testing.T) {
	const secret = "/local/domain/5/secret"
	g := newGuest()
	second := guestNetfront("eth1", 1500)
	second.BusInfo, second.Index = "vif-1", 4
	g.interfaces = append(g.interfaces, second)
	g.store["device/vif/1"], g.store["device/vif/1/backend"] = "", secret
	source := g.source()
	source.Xenstore = func(_ context.Context, paths []string) (map[string]string, error) {
		for _, path := range paths {
			if strings.HasPrefix(path, secret) {
				return nil, errors.New("xenstore: " + secret + ": EACCES")
			}
		}
		return g.store, nil
	}
	m, err := Read(t.Context(), source, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first := m.Interfaces[0].Backend; first.Missing != "" || first.Value.MaxQueues != 8 {
		t.Errorf("the first backend: %+v, want 8 queues", first)
	}
	if second := m.Interfaces[1].Backend; second.Missing != "xenstore: "+secret+": EACCES" {
		t.Errorf("the second backend: %+v, want why it is unknown", second)
	}
}

// A backend may offer any number of queues, also none.
func TestQueuesThatABackendOffers(t *testing.T) {
	for offer, want := range map[string]int{"8": 8, "0": 1, "-5": 1, "": 1, "x\n1": 1, "99999999999999999999": 1} {
		g := newGuest()
		g.offer(keyQueues, offer)
		if got := g.read(t).Interfaces[0].Backend; got.Missing != "" || got.Value.MaxQueues != want {
			t.Errorf("%q: %+v, want %d", offer, got, want)
		}
	}
}
