package congestion

import (
	"fmt"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/netdev"
)

// A Ring is the state of a transmit ring: the driver's own indices.
type Ring struct {
	Requests  uint32 // req_prod_pvt: slots put on it since it was connected
	Responses uint32 // rsp_cons: slots whose TX response was handled
}

// InUse is how many of its slots are.
func (r Ring) InUse() uint32 { return r.Requests - r.Responses }

// Rings reads the present state of an interface's rings, apart from what is counted. It is nil where the driver's structures are not known.
func (m *Meter) Rings(i netdev.Interface) ([]Ring, error) {
	if !m.hooks.rings || !i.IsNetfront() {
		return nil, nil
	}
	return m.hooks.readRings(bpf.CongestionProgReadRings, i)
}

func (m *Meter) beginRings(i netdev.Interface) error {
	if !m.hooks.rings || !i.IsNetfront() {
		return nil
	}
	_, err := m.hooks.readRings(bpf.CongestionProgBeginRings, i)
	return err
}

func (k counters) readRings(program string, i netdev.Interface) ([]Ring, error) {
	arguments := [2]uint64{uint64(i.Index), uint64(i.Namespace)}
	status, err := k.collection.Programs[program].Run(&ebpf.RunOptions{Context: arguments})
	if err != nil {
		return nil, fmt.Errorf("transmit rings of %s: %w", i, err)
	}
	if status != 0 {
		return nil, fmt.Errorf("transmit rings of %s: not found", i)
	}
	var now bpf.CongestionRingsNow
	if err := k.collection.Maps[bpf.CongestionMapRingsNow].Lookup(uint32(0), &now); err != nil {
		return nil, fmt.Errorf("transmit rings of %s: %w", i, err)
	}
	rings := make([]Ring, min(int(now.Count), len(now.Indices)))
	for n := range rings {
		rings[n] = Ring{now.Indices[n].ReqProdPvt, now.Indices[n].RspCons}
	}
	return rings, nil
}
