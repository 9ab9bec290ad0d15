package exporter

import (
	"testing"

	"xentrace/internal/event"
)

// Namespaces may come and go for ever: only those of interfaces that have series are kept, and
// what is counted of their connections is counted once.
func TestPressureIsBounded(t *testing.T) {
	p := newPressures()
	own := congested(2, "eth0")
	*own.TCP.Accepts = 3
	for i := range 1000 {
		other := congested(3+i, "eth1")
		other.NetNS = uint32(100 + i)
		p.add([]event.CongestionReport{other, own, own}, func(d event.Device) int {
			if d.Name == own.Name {
				return 1
			}
			return 0
		})
	}
	if len(p.interfaces) != 2 || len(p.spaces) != 1 {
		t.Errorf("%d interfaces and %d namespaces are kept, want 2 and 1", len(p.interfaces), len(p.spaces))
	}
	if got := p.spaces[own.NetNS].accepted; got != 3000 {
		t.Errorf("%d connections were accepted, want 3000", got)
	}
}
