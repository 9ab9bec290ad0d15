package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// Gateway makes one probe out of the interface with this index to its own default
// gateway, and to nothing else. The interface has to be in the network namespace of
// the calling thread, whose inode number namespace is. smallHead is [SmallHeadSize] as of
// before privileges were dropped. Errors that wrap
// trace.ErrCannotRun have the reason why no probe can be made; nothing was sent then.
func Gateway(ctx context.Context, t Tracer, namespace uint32, index, smallHead int) (result event.Probe, err error) {
	network, err := netdev.Current()
	if err != nil {
		return event.Probe{}, err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	if network.Inum() != namespace {
		return event.Probe{}, fmt.Errorf("%w: it is in another network namespace", trace.ErrCannotRun)
	}
	options, err := toGateway(network, index)
	if err != nil {
		return event.Probe{}, err
	}
	options.SmallHead = smallHead
	prober := New(ctx, t, network, options)
	defer func() { err = errors.Join(err, prober.Close()) }()
	return prober.Once(ctx)
}

// toGateway finds out what to probe. It sends nothing.
func toGateway(network *netdev.Namespace, index int) (Options, error) {
	i, err := network.ByIndex(index)
	if err != nil {
		return Options{}, err
	}
	if !i.Up {
		return Options{}, fmt.Errorf("%w: it is down", trace.ErrCannotRun)
	}
	gateways, err := network.DefaultGateways(index)
	if err != nil {
		return Options{}, err
	}
	if len(gateways) == 0 {
		return Options{}, fmt.Errorf("%w: it has no default gateway", trace.ErrCannotRun)
	}
	destination, err := gatewayDestination(network, i, gateways[0])
	if err != nil {
		return Options{}, err
	}
	features, err := network.Features(index)
	return Options{Interface: i, Destination: destination, ScatterGather: features.ScatterGather.Active}, err
}

// resolve has the kernel find out the link address of the next hop, with a small
// datagram where it does not know it: the probe would wait for it, and a second one
// would push the first out. It returns why the driver will not be handed anything, if so.
func (p *Prober) resolve(ctx context.Context) (unseen string, err error) {
	state, err := p.neighbour()
	if err != nil || state == netdev.NeighbourKnown {
		return "", err
	}
	s, err := p.senders.small(ctx)
	if err != nil {
		return describeSend(err), ctx.Err()
	}
	err = s.Send(ctx)
	if closed := s.Close(); closed != nil {
		return "", closed
	}
	if err != nil && ctx.Err() == nil {
		return describeSend(err), nil
	}
	return p.awaitNeighbour(ctx)
}

// awaitNeighbour waits until the next hop has answered, or has not.
func (p *Prober) awaitNeighbour(ctx context.Context) (unseen string, err error) {
	ticker := time.NewTicker(neighbourInterval)
	defer ticker.Stop()
	for end := time.Now().Add(neighbourPatience); ; {
		state, err := p.neighbour()
		switch {
		case err != nil:
			return "", err
		case state == netdev.NeighbourKnown, state == netdev.NeighbourUnknown:
			return "", nil // the latter on links that have no link addresses
		case state == netdev.NeighbourUnanswered, time.Now().After(end):
			return p.silent(), nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-ticker.C:
		}
	}
}

func (p *Prober) neighbour() (netdev.Neighbour, error) {
	state, err := p.network.Neighbour(p.options.Interface.Index, p.options.Destination.NextHop)
	if errors.Is(err, netdev.ErrNotFound) {
		return netdev.NeighbourUnknown, nil
	}
	return state, err
}

// silent reports that the next hop does not show its link address.
func (p *Prober) silent() string {
	hop, asks := p.options.Destination.NextHop, "neighbour solicitations"
	if hop.Is4() {
		asks = "ARP requests"
	}
	return fmt.Sprintf("%s does not answer %s on interface %s, so the kernel cannot send to it; check the address and the link", hop, asks, p.options.Interface)
}

// notSeen reports why the driver was not handed the datagram in time, as far as that is known.
func (p *Prober) notSeen() string {
	state, err := p.neighbour()
	if err == nil && (state == netdev.NeighbourAsked || state == netdev.NeighbourUnanswered) {
		return p.silent()
	}
	return fmt.Sprintf("the driver was not handed the datagram within %s, and the kernel did not report that it dropped it: it may wait in a queueing discipline (tc -s qdisc show dev %s)", seenPatience, p.options.Interface)
}
