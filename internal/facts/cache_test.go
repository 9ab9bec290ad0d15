package facts

import (
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
)

// ownNamespace is the inode number of the test's network namespace.
func ownNamespace(t *testing.T) uint32 {
	t.Helper()
	namespace, err := netdev.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = namespace.Close() }()
	return namespace.Inum()
}

// Every network namespace has lo, with index 1.
func TestCacheReadsTheInterface(t *testing.T) {
	got := new(Cache).Of(event.Device{Name: "lo", Index: 1, NetNS: ownNamespace(t)})
	if got.Interface != "lo" || got.MTU == 0 || got.SG == remedy.NotKnown || got.GSO == remedy.NotKnown || len(got.CPUs) == 0 {
		t.Errorf("%+v, want the machine's CPUs, and the MTU and offloads of lo", got)
	}
}

// An interface can be gone by the time it is asked about, its namespace too.
func TestCacheOfAnInterfaceThatIsGone(t *testing.T) {
	for name, device := range map[string]event.Device{
		"interface": {Name: "eth7", Index: 1 << 30, NetNS: ownNamespace(t)},
		"namespace": {Name: "eth7", Index: 1, NetNS: 1}, // below the first inode number of nsfs
	} {
		got := new(Cache).Of(device)
		if got.Interface != "eth7" || got.MTU != 0 || got.SG != remedy.NotKnown || len(got.CPUs) == 0 {
			t.Errorf("%s: %+v, want the name and the machine's CPUs only", name, got)
		}
	}
}

// The machine is not read again at once; whether the driver linearizes is asked each time.
func TestCacheReuses(t *testing.T) {
	state := remedy.NotKnown
	c := &Cache{Linearizes: func() remedy.Setting { return state }}
	device := event.Device{Name: "lo", Index: 1, NetNS: ownNamespace(t)}
	if got := c.Of(device); got.Linearizes != remedy.NotKnown {
		t.Errorf("linearizes %d before it is known", got.Linearizes)
	}
	c.facts.MTU, state = 1, remedy.Off
	if got := c.Of(device); got.MTU != 1 || got.Linearizes != remedy.Off {
		t.Errorf("%+v, want what was read before, and a driver that drops", got)
	}
	c.read = c.read.Add(-lifetime)
	if got := c.Of(device); got.MTU == 1 {
		t.Error("facts were reused after their lifetime")
	}
	c.facts.MTU = 1
	device.Name = "other"
	if got := c.Of(device); got.MTU == 1 {
		t.Error("facts of one device were reused for another")
	}
}
