package check

import (
	"context"
	"strconv"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

// A Backend is what both ends of an interface offer each other, from xenstore.
type Backend struct {
	SG, TSO, TSO6 bool // what the backend accepts
	MaxQueues     int  // that it offers; 1 without the key

	// Whether each end accepts packets whose checksum is left blank.
	BackendIPv4, BackendIPv6   bool
	FrontendIPv4, FrontendIPv6 bool
}

// The keys of xen/interface/io/netif.h. IPv4 is accepted unless the key refuses it.
const (
	keySG      = "/feature-sg"
	keyTSO     = "/feature-gso-tcpv4"
	keyTSO6    = "/feature-gso-tcpv6"
	keyQueues  = "/multi-queue-max-queues"
	keyNoCsum  = "/feature-no-csum-offload"
	keyCsumOf6 = "/feature-ipv6-csum-offload"
)

// readBackends reads what is at both ends. ends are values at device/vif/N/backend: each names
// a path that its backend chose, and one that cannot be read concerns no other interface.
func (r *reader) readBackends(ctx context.Context, m *Machine, ends map[string]string) {
	for n := range m.Interfaces {
		i := &m.Interfaces[n]
		if device, backend := i.xenbus(), ends[i.xenbus()+"/backend"]; device != "" && backend != "" {
			i.Backend = r.readBackend(ctx, device, backend)
		}
	}
}

func (r *reader) readBackend(ctx context.Context, device, backend string) Known[Backend] {
	values, err := r.source.Xenstore(ctx, []string{
		device + keyNoCsum, device + keyCsumOf6, backend + keySG, backend + keyTSO, backend + keyTSO6, backend + keyQueues, backend + keyNoCsum, backend + keyCsumOf6,
	})
	on := func(key string) bool { return values[key] == "1" }
	b := Backend{
		SG: on(backend + keySG), TSO: on(backend + keyTSO), TSO6: on(backend + keyTSO6), MaxQueues: 1,
		BackendIPv4: !on(backend + keyNoCsum), BackendIPv6: on(backend + keyCsumOf6),
		FrontendIPv4: !on(device + keyNoCsum), FrontendIPv6: on(device + keyCsumOf6),
	}
	if most, err := strconv.Atoi(values[backend+keyQueues]); err == nil {
		b.MaxQueues = max(most, 1)
	}
	return tried(b, err)
}

// withBackend adds what the backend offers: an offload that it does not cannot be turned on.
func withBackend(f remedy.Facts, b *Known[Backend]) remedy.Facts {
	if b.Missing != "" || b.Value.MaxQueues == 0 {
		return f
	}
	for _, offload := range []struct {
		offered bool
		state   *remedy.Setting
	}{{b.Value.SG, &f.SG}, {b.Value.TSO, &f.TSO}, {b.Value.TSO6, &f.TSO6}} {
		if !offload.offered && *offload.state == remedy.Off {
			*offload.state = remedy.Absent
		}
	}
	f.BackendQueues = b.Value.MaxQueues
	return f
}

// checksum compares what the ends accept. netfront sends blank checksums of IPv4 whatever the
// backend offers, and of IPv6 where the backend accepts them.
func (m *Machine) checksum(i *Interface) event.Finding {
	f := about(i, Checksum)
	if i.Backend.Missing != "" || i.Backend.Value.MaxQueues == 0 {
		reason := i.Backend.Missing
		if reason == "" {
			reason = i.Trusted.Missing
		}
		if reason == "" {
			reason = "xenstore does not name the backend"
		}
		f.Status, f.Message = event.Unknown, "Whether both ends accept blank checksums is unknown: "+reason+"."
		return f
	}
	b := &i.Backend.Value
	f.Evidence = []event.Fact{
		{Key: "backend_ipv4", Value: b.BackendIPv4}, {Key: "backend_ipv6", Value: b.BackendIPv6},
		{Key: "frontend_ipv4", Value: b.FrontendIPv4}, {Key: "frontend_ipv6", Value: b.FrontendIPv6}, {Key: "forwards", Value: m.Forwards},
	}
	switch {
	case !b.BackendIPv4:
		f.Status = event.Warn
		f.Message = "The backend does not accept blank checksums, and the frontend sends them all the same: TCP and UDP packets can arrive with a wrong checksum."
		f.Advice = m.advise(i, remedy.ChecksumInDom0)
	case !b.FrontendIPv4:
		f.Message = "The frontend does not accept blank checksums: the backend computes those of packets from other guests of the host."
	case b.BackendIPv6 != b.FrontendIPv6:
		f.Message = "Only one end accepts blank checksums of IPv6: the other direction costs more CPU."
	case !b.BackendIPv6:
		f.Message = "Both ends accept blank checksums of IPv4 and not of IPv6, which costs CPU."
	default:
		f.Message = "Both ends accept blank checksums."
	}
	if m.Forwards && b.BackendIPv4 && b.FrontendIPv4 {
		f.Message += " This guest forwards: packets from guests of the same host pass it with blank checksums, which peers that verify them (FreeBSD) drop. Turning off tx checksumming at their vif in dom0 avoids that."
	}
	return f
}
