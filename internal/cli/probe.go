package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/netdev"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
	"xentrace/internal/verdict"
)

type probing struct {
	tracing
	to         netip.AddrPort // valid if the user named it
	slots      int            // 0 for any number over the limit
	ipv4, ipv6 bool
}

func (a *app) probeCommand() *cobra.Command {
	o := &probing{tracing: a.newTracing()}
	c := &cobra.Command{
		Use: "probe [flags]", Short: "Send one many-slot datagram and report what the driver does",
		Long: `Sends a UDP datagram of about 1 kB in more than 18 slots to the discard port
(9) of the interface's default gateway, or to --to, and nowhere else. Reports
whether the driver drops, linearizes or sends it, and whether the backend
accepts it. A datagram with too few slots is retried, at most 32 times. With
scatter-gather off, small datagrams are sent until one straddles a page
boundary.

Exits 1 if a datagram is lost, 3 if that is unknown.`,
		Args: none,
		Example: `  sudo xentrace probe
  sudo xentrace probe -i eth0 --to 192.0.2.7:9 --slots 19 -o json`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	interfaceFlag(c, &o.interfaces, "interface to send from; without it, the only xen-netfront interface")
	c.Flag("interface").Usage = strings.TrimSuffix(c.Flag("interface").Usage, repeatable)
	parsed(c, &o.to, "to", "", "ADDR[:PORT]", "the interface's default gateway, port 9", "send to this address", probe.ParseAddress)
	parsed(c, &o.slots, "slots", "", "N", "27; any number over 18 will do", "slots the datagram must have, 2 to 31", parseSlots)
	parsed(c, &o.count, "count", "", "N", "1", "number of probes", parseCount)
	toggle(c, &o.ipv4, "ipv4", "4", "only the IPv4 gateway")
	toggle(c, &o.ipv6, "ipv6", "6", "only the IPv6 gateway")
	o.durationFlag(c, "give up after this time, e.g. 30s; default: a few seconds per probe")
	o.backendFlag(c)
	o.outputFlags(c)
	return c
}

func parseSlots(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n == 0 || probe.CheckSlots(n) != nil {
		return 0, probe.ErrOutOfRange
	}
	return n, nil
}

func (o *probing) run(ctx context.Context) error {
	options, network, err := o.options()
	if err != nil {
		return err
	}
	defer network.Close()
	o.interfaces = []string{options.Interface.Name}
	o.drops, o.rejected, o.probe = string(event.DropsAll), true, true
	t, err := attach(ctx, &o.tracing, true, nil)
	if t == nil {
		return err
	}
	defer t.cancel()
	out := t.stream(false)
	results, err := t.probes(ctx, out, network, options)
	stopped := t.tracer.Stop(context.WithoutCancel(ctx))
	machine := &facts.Cache{}
	_ = out.Emit(&event.Probes{Results: results, Explained: verdict.ExplainProbes(results, machine.Of)}) // closing it returns the error
	written := out.Close()
	if err := errors.Join(err, stopped, t.tracer.Close(), written); err != nil {
		return err
	}
	return judgeProbes(results)
}

func judgeProbes(results []event.Probe) error {
	unseen := 0
	for i := range results {
		if results[i].Lost() {
			return errFinding
		}
		if !results[i].Seen {
			unseen++
		}
	}
	if unseen > 0 {
		return fmt.Errorf("%w: %d of %d probes did not reach the driver", trace.ErrCannotRun, unseen, len(results))
	}
	return nil
}

// options finds out what to probe. Nothing is attached or sent yet.
func (in *probing) options() (probe.Options, *netdev.Namespace, error) {
	var o probe.Options
	family := probe.AnyFamily
	switch {
	case len(in.interfaces) > 1:
		return o, nil, usageError{errors.New("--interface: only one can be probed at a time")}
	case in.ipv4 && in.ipv6:
		return o, nil, usageError{errors.New("--ipv4 and --ipv6 exclude each other")}
	case in.ipv4:
		family = probe.IPv4
	case in.ipv6:
		family = probe.IPv6
	}
	network, err := netdev.Current()
	if err != nil {
		return o, nil, err
	}
	o, err = in.probeOf(network, family)
	if err != nil {
		err = errors.Join(err, network.Close())
	}
	var refused *probe.RefusalError
	if errors.As(err, &refused) && !errors.Is(err, trace.ErrCannotRun) {
		err = usageError{fmt.Errorf("--to: %w", err)}
	}
	return o, network, err
}

func (in *probing) probeOf(network *netdev.Namespace, family probe.Family) (probe.Options, error) {
	o := probe.Options{Slots: in.slots, SmallHead: probe.SmallHeadSize()}
	var err error
	if o.Interface, err = in.probed(network); err != nil {
		return o, err
	}
	if o.Destination, err = probe.FindDestination(network, o.Interface, in.to, family); err != nil {
		return o, err
	}
	features, err := network.Features(o.Interface.Index)
	o.ScatterGather = features.ScatterGather.Active
	return o, err
}

func (in *probing) probed(network *netdev.Namespace) (netdev.Interface, error) {
	if len(in.interfaces) == 1 {
		i, err := network.ByName(in.interfaces[0])
		switch {
		case errors.Is(err, netdev.ErrNotFound):
			return i, fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
		case err == nil && i.Loopback:
			return i, usageError{fmt.Errorf("--interface: %s is the loopback interface; probe another one", i)}
		case err == nil && !i.Up:
			return i, fmt.Errorf("%w: interface %s is down: ip link set dev %s up", trace.ErrCannotRun, i, i)
		}
		return i, err
	}
	all, err := network.Interfaces()
	if err != nil {
		return netdev.Interface{}, err
	}
	return onlyNetfront(all)
}

// onlyNetfront returns the one interface that is driven by xen-netfront and up.
func onlyNetfront(all []netdev.Interface) (netdev.Interface, error) {
	var found []netdev.Interface
	var names []string
	for _, i := range all {
		if i.IsNetfront() && i.Up {
			found = append(found, i)
			names = append(names, i.String())
		}
	}
	switch len(found) {
	case 0:
		return netdev.Interface{}, fmt.Errorf("%w: no xen-netfront interface is up in this network namespace; use -i NAME for another driver", trace.ErrCannotRun)
	case 1:
		return found[0], nil
	}
	return netdev.Interface{}, usageError{fmt.Errorf("several xen-netfront interfaces found; use -i with one of %s", strings.Join(names, ", "))}
}

// probes makes them, and writes each result as soon as it is known. An interrupt ends
// them, and so does the time that --duration gives.
func (t *traced) probes(ctx context.Context, out *stream, network *netdev.Namespace, o probe.Options) (results []event.Probe, err error) {
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	prober := probe.New(reading, t.tracer, network, o)
	defer func() { err = errors.Join(err, prober.Close()) }()
	sending := ctx
	if t.in.duration > 0 {
		var cancel context.CancelFunc
		sending, cancel = context.WithTimeout(ctx, t.in.duration)
		defer cancel()
	}
	for range max(t.in.count, 1) {
		r, err := prober.Once(sending)
		switch {
		case ctx.Err() != nil:
			t.console.Say(fmt.Sprintf("interrupted after %d of %d probes", len(results), max(t.in.count, 1)))
			return results, nil
		case sending.Err() != nil:
			return results, t.outOfTime(results)
		case err != nil:
			return results, err
		}
		results = append(results, r)
		if err := out.Emit(&r); err != nil {
			return results, nil // who closes the stream reports it
		}
	}
	return results, nil
}

// outOfTime returns the error of probes that --duration ended; nil if one was lost, which is
// the finding.
func (t *traced) outOfTime(results []event.Probe) error {
	if slices.ContainsFunc(results, func(r event.Probe) bool { return r.Lost() }) {
		return nil
	}
	return fmt.Errorf("%w: probe: --duration %s is over after %d of %d probes; raise -d", trace.ErrCannotRun, t.in.duration, len(results), max(t.in.count, 1))
}
