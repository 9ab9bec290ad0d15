package netdev

import (
	"errors"
	"maps"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSetFeatures(t *testing.T) {
	ns := newNamespace(t)
	veth, _ := addVeth(t, ns, "v0", "v1", 1)
	before, err := ns.AllFeatures(veth.Index)
	must(t, err)
	if f := before["tx-scatter-gather"]; !f.Active || !f.Requested || !f.Changeable {
		t.Fatalf("scatter-gather of a veth: %+v, want on and changeable", f)
	}
	must(t, ns.SetFeatures(veth.Index, map[string]bool{"tx-scatter-gather": false, "tx-generic-segmentation": false}))
	off, err := ns.Features(veth.Index)
	must(t, err)
	if off.ScatterGather.Active || off.ScatterGather.Requested || off.GSO.Active {
		t.Errorf("turned off, and is %+v", off)
	}
	if off.TSO.Active || !off.TSO.Requested {
		t.Errorf("TSO without scatter-gather is %+v, want requested and off", off.TSO)
	}
	must(t, ns.SetFeatures(veth.Index, map[string]bool{"tx-scatter-gather": true, "tx-generic-segmentation": true}))
	after, err := ns.AllFeatures(veth.Index)
	must(t, err)
	if !maps.Equal(before, after) {
		t.Errorf("not the features from before:\n%v\n%v", before, after)
	}
}

func TestSetFeaturesIsRefused(t *testing.T) {
	ns := newNamespace(t)
	veth, _ := addVeth(t, ns, "v0", "v1", 1)
	before, err := ns.AllFeatures(veth.Index)
	must(t, err)
	for name, feature := range map[string]string{"unknown": "tx-of-the-moon", "fixed": "tx-lockless"} {
		if name == "fixed" && before[feature].Changeable {
			t.Fatalf("%s can be changed here", feature)
		}
		err := ns.SetFeatures(veth.Index, map[string]bool{"tx-scatter-gather": false, feature: true})
		if !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("%s: %v, want EOPNOTSUPP", name, err)
		}
	}
	after, err := ns.AllFeatures(veth.Index)
	must(t, err)
	if !maps.Equal(before, after) {
		t.Error("something was changed all the same")
	}
	if err := ns.SetFeatures(veth.Index+1000, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("no interface: %v", err)
	}
}

func TestSetMTU(t *testing.T) {
	ns := newNamespace(t)
	veth, _ := addVeth(t, ns, "v0", "v1", 1)
	must(t, ns.SetMTU(veth.Index, 9001))
	if now := byName(t, ns, "v0"); now.MTU != 9001 {
		t.Errorf("MTU %d, want 9001", now.MTU)
	}
	if err := ns.SetMTU(veth.Index, 1<<20); !errors.Is(err, unix.EINVAL) {
		t.Errorf("an MTU of 1 MiB: %v, want EINVAL", err)
	}
	if err := ns.SetMTU(veth.Index+1000, 1500); !errors.Is(err, ErrNotFound) {
		t.Errorf("no interface: %v", err)
	}
}
