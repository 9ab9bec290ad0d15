package probe

import (
	"context"
	"errors"
	"fmt"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// Gateway makes one probe out of the interface with this index to its own default
// gateway, and to nothing else. The interface has to be in the network namespace of
// the calling thread, whose inode number namespace is. Errors that wrap
// trace.ErrCannotRun say why no probe can be made; nothing was sent then.
func Gateway(ctx context.Context, t Tracer, namespace uint32, index int) (result event.Probe, err error) {
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
