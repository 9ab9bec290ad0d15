package demo

import (
	"errors"
	"net/netip"

	"xentrace/internal/demo/network"
)

// The names are unique: the namespaces are the demo's own.
const (
	nearName = "demo0"
	farName  = "demo1"
	mtu      = 1500
)

var (
	nearPrefix = netip.MustParsePrefix("192.0.2.1/24") // TEST-NET-1
	farPrefix  = netip.MustParsePrefix("192.0.2.2/24")
)

type link struct{ near, far network.End }

func newLink() (*link, error) {
	near, err := network.NewNamespace()
	if err != nil {
		return nil, err
	}
	far, err := network.NewNamespace()
	if err != nil {
		return nil, errors.Join(err, near.Close())
	}
	n := &link{
		near: network.End{Namespace: near, Name: nearName, Addresses: []netip.Prefix{nearPrefix}},
		far:  network.End{Namespace: far, Name: farName, Addresses: []netip.Prefix{farPrefix}},
	}
	if err := network.Join(n.near, n.far, mtu); err != nil {
		return nil, errors.Join(err, near.Close(), far.Close())
	}
	return n, nil
}

func (n *link) transmitted() (uint64, error) {
	sent, dropped, err := n.near.Transmitted()
	return sent + dropped, err
}

func (n *link) close() error {
	return errors.Join(n.near.Remove(), n.near.Namespace.Close(), n.far.Namespace.Close())
}
