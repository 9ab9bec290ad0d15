package fix

import (
	"context"

	"xentrace/internal/netdev"
)

// A Machine is what is changed: the one this runs on, or what a test puts in its
// place.
type Machine interface {
	// Sysctl returns the value of a setting, named with dots.
	Sysctl(name string) (string, error)
	SetSysctl(name, value string) error
	// Find returns the interface that was meant, under whatever name and in
	// whatever network namespace it is by now. The error wraps netdev.ErrNotFound
	// if it is gone.
	Find(ctx context.Context, meant Identity) (Device, error)
}

// A Device is one network interface.
type Device interface {
	Identity() Identity
	MTU() (int, error)
	SetMTU(mtu int) error
	Counters() (netdev.Counters, error)
	// Features returns every offload by its name.
	Features() (map[string]netdev.Feature, error)
	// SetFeatures asks for offloads to be on or off, all at once.
	SetFeatures(on map[string]bool) error
}

// An Identity is what an interface is known by, when its name has changed too.
type Identity struct {
	Name    string `json:"name"`
	Index   int    `json:"index"`
	NetNS   uint32 `json:"netns"`
	Driver  string `json:"driver"`
	BusInfo string `json:"bus_info"`
	Address string `json:"address"`
}

// same tells how well an interface fits what was meant: 0 if not at all.
func (i Identity) same(found Identity) int {
	if i.Driver != found.Driver || i.BusInfo != found.BusInfo {
		return 0
	}
	switch {
	case i.NetNS == found.NetNS && i.Index == found.Index && (i.BusInfo != "" || i.Address == found.Address):
		return 4
	case i.BusInfo != "" && i.Address == found.Address:
		return 3 // moved, or attached again
	case i.BusInfo != "" && i.Name == found.Name:
		return 2 // with another address
	case i.Address == found.Address && i.Address != "" && i.Name == found.Name:
		return 1
	}
	return 0
}
