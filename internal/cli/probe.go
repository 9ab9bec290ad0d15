package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/netdev"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
	"xentrace/internal/verdict"
)

func probeCommand() *command {
	return &command{
		name:  "probe",
		short: "send one harmless datagram of many slots, and tell what the driver did with it",
		long: []string{
			"Sends one UDP datagram of about 1 kB that needs more slots than the Xen network frontend takes for one packet, out of one interface, and tells what became of it: the driver dropped it (and why), linearized it, or sent it as it was; and, where its answers can be seen (fentry and kprobe, kernels from 5.11 on), whether the backend took it. A datagram that did not get enough slots is made again, at most 32 times.",
			"It goes to the discard port (9) of the interface's own default gateway, or to the address given with --to, and nowhere else: broadcast, multicast, loopback and own addresses are refused, and so is an address whose route leaves by another interface. The socket is bound to the interface. If the kernel does not know the next hop's link address, a datagram of 16 bytes is sent first. Nothing that is sent needs a privilege; watching it needs root.",
			"On an interface of another driver, named with --interface, it tells what a Xen frontend would have done.",
			"With scatter-gather off nothing of many slots reaches the driver. An attempt is then eight small datagrams, until the head of one lies across a page boundary, as some kernels from 6.3 on place them: the driver drops it.",
			"The exit status is 1 if a datagram was lost, dropped or rejected; 0 if it was sent, as it was or linearized; 3 if it is not known.",
		},
		flags:    probeFlags(),
		examples: []example{{"sudo xentrace probe", "does this machine's driver drop packets of many slots?"}, {"sudo xentrace probe -i eth0 --to 192.0.2.7:9 --slots 19 -o json", "one more slot than there are, for a script"}},
		run:      runProbe,
	}
}

func probeFlags() []*flag {
	return []*flag{
		{name: "interface", short: "i", value: "NAME", completes: interfaceNames,
			usage:   "the interface of the caller's network namespace to send from, any driver",
			initial: "the one that is driven by xen-netfront, if it is the only one",
			bind:    interfaceValue},
		{name: "to", value: "ADDR:PORT", usage: "send to this address; without a port to the discard port, 9", initial: "the interface's default gateway, port 9",
			bind: addressValue},
		{name: "slots", value: "N", usage: "slots that the datagram is to need, 2 to 31", initial: "27, and any number over the limit will do",
			bind: slotsValue},
		{name: "count", value: "N", usage: "make this many probes", initial: "1", bind: countValue},
		{name: "ipv4", short: "4", usage: "only the IPv4 gateway will do", bind: switchValue(func(s *settings) *bool { return &s.ipv4 })},
		{name: "ipv6", short: "6", usage: "only the IPv6 gateway will do", bind: switchValue(func(s *settings) *bool { return &s.ipv6 })},
		{name: "duration", short: "d", value: "TIME", usage: "give up after this time, such as 30s; 0 is never", initial: "a few seconds for each probe",
			bind: durationValue},
		{name: "backend", value: "NAME", words: backends, usage: "how to attach, auto being the best that really does", initial: "auto",
			bind: wordValue(backends, func(s *settings) *string { return &s.backend })},
		outputFlag(),
		colorFlag(),
		{name: "ready-file", value: "PATH", completes: fileNames, usage: "create this file once every hook is attached",
			bind: pathValue(func(s *settings) *string { return &s.readyFile })},
		verboseFlag(),
	}
}

func addressValue(s *settings) pflag.Value {
	return &value{kind: "address", set: func(text string) (err error) {
		s.to, err = probe.ParseAddress(text)
		return err
	}}
}

func slotsValue(s *settings) pflag.Value {
	return &value{kind: "number", set: func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n == 0 {
			return probe.ErrOutOfRange
		}
		s.slots = n
		if probe.CheckSlots(n) != nil {
			return probe.ErrOutOfRange
		}
		return nil
	}}
}

func runProbe(ctx context.Context, in *invocation) error {
	options, network, err := in.probeOptions()
	if err != nil {
		return err
	}
	defer network.Close()
	in.interfaces = []string{options.Interface.Name}
	in.drops, in.rejected, in.probe = string(event.DropsAll), true, true
	t, err := attach(ctx, in, true, nil)
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

// judgeProbes is what the exit status tells of them.
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
		return fmt.Errorf("%w: probe: the driver was not handed %d of %d datagrams", trace.ErrCannotRun, unseen, len(results))
	}
	return nil
}

// probeOptions finds out what to probe. Nothing is attached or sent yet.
func (in *invocation) probeOptions() (probe.Options, *netdev.Namespace, error) {
	var o probe.Options
	family := probe.AnyFamily
	switch {
	case len(in.interfaces) > 1:
		return o, nil, usageError{errors.New("probe: --interface: only one at a time can be probed")}
	case in.ipv4 && in.ipv6:
		return o, nil, usageError{errors.New("probe: --ipv4 and --ipv6 exclude each other")}
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
		err = usageError{fmt.Errorf("probe: --to: %w", err)}
	}
	return o, network, err
}

// probeOf does it in one network namespace.
func (in *invocation) probeOf(network *netdev.Namespace, family probe.Family) (probe.Options, error) {
	o := probe.Options{Slots: in.slots}
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

// probed returns the interface to probe.
func (in *invocation) probed(network *netdev.Namespace) (netdev.Interface, error) {
	if len(in.interfaces) == 1 {
		i, err := network.ByName(in.interfaces[0])
		switch {
		case errors.Is(err, netdev.ErrNotFound):
			return i, fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
		case err == nil && i.Loopback:
			return i, usageError{fmt.Errorf("probe: --interface: %s is the loopback interface: what is sent there never leaves this machine", i)}
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
		return netdev.Interface{}, fmt.Errorf("%w: no interface of this network namespace is driven by xen-netfront and up: name one of another driver with -i to see what Xen would do", trace.ErrCannotRun)
	case 1:
		return found[0], nil
	}
	return netdev.Interface{}, usageError{fmt.Errorf("probe: several interfaces are driven by xen-netfront: name one of %s with -i", strings.Join(names, ", "))}
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
			return results, nil
		case sending.Err() != nil:
			return results, fmt.Errorf("%w: probe: what became of the datagram was not seen in the %s that --duration gives", trace.ErrCannotRun, t.in.duration)
		case err != nil:
			return results, err
		}
		results = append(results, r)
		if err := out.Emit(&r); err != nil {
			return results, nil // who closes the stream tells of it
		}
	}
	return results, nil
}
