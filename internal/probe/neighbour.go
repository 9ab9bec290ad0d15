package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xentrace/internal/netdev"
)

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

// silent says that the next hop does not tell its link address.
func (p *Prober) silent() string {
	hop, asks := p.options.Destination.NextHop, "neighbour solicitations"
	if hop.Is4() {
		asks = "ARP requests"
	}
	return fmt.Sprintf("%s does not answer %s on interface %s, so that the kernel has no link address to send to, and the driver was handed nothing", hop, asks, p.options.Interface)
}

// notSeen says why the driver was not handed the datagram in time, as far as that can be told.
func (p *Prober) notSeen() string {
	state, err := p.neighbour()
	if err == nil && (state == netdev.NeighbourAsked || state == netdev.NeighbourUnanswered) {
		return p.silent()
	}
	return fmt.Sprintf("the driver was not handed the datagram within %s, and the kernel did not say that it dropped it: it may wait in a queueing discipline (tc -s qdisc show dev %s)", seenPatience, p.options.Interface)
}
