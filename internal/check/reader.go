package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"xentrace/internal/facts"
	"xentrace/internal/netdev"
)

type reader struct{ source Source }

// Read takes every fact from the source. Without names it looks at the
// interfaces of xen-netfront, in every network namespace it may look into. It
// fails only for an interface that is not there, or if the context ends; what
// else cannot be read is a fact that is missing.
func Read(ctx context.Context, source Source, names []string) (*Machine, error) {
	r := &reader{source}
	links, err := source.Links(ctx, names)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	m := &Machine{
		Release: source.Release, NetNS: links.NetNS, Interfaces: slices.Clone(links.Judged), Others: links.Others, Unseen: links.Unseen,
	}
	var work sync.WaitGroup
	m.Vifs, m.Unbound = r.vifs()
	concerned := m.concerned()
	if concerned { // what takes longest, side by side
		work.Go(func() { m.Code.Live = r.liveCode(ctx) })
		work.Go(func() { m.readFile(ctx, r) })
		work.Go(func() { m.SharedInfo = tried(source.SharedInfo()) })
		work.Go(func() { m.Log = r.log(ctx, &links) })
		work.Go(func() { r.readTrust(ctx, m) })
	}
	m.NoBus = !r.exists("sys/bus")
	m.Hypervisor = r.readHypervisor()
	m.Slab = r.readSlab()
	m.SinglePages = r.readSinglePages()
	m.MaxQueues = r.number("sys/module/xen_netfront/parameters/max_queues")
	m.Facts = facts.Machine(source.Files)
	m.Uptime = r.uptime()
	m.Sources = r.readInterrupts()
	m.PCI = r.readPCI()
	m.Grants = r.readGrantTable()
	if concerned {
		m.Origins = r.readOrigins()
	}
	m.Forwards = r.line("proc/sys/net/ipv4/ip_forward") == "1"
	r.readForEC2RL(m)
	work.Wait()
	r.readAffinity(m)
	m.Slab.Value.Tail = m.SharedInfo.Value.Bytes
	for n := range m.Interfaces {
		if m.Interfaces[n].Namespace == m.NetNS { // whose interfaces /sys shows
			m.Interfaces[n].RPSCPUs = facts.RPS(source.Files, m.Interfaces[n].Name)
		}
		r.readEvents(&m.Interfaces[n])
		countAgain(&m.Interfaces[n], links.Again, time.Since(began))
	}
	return m, ctx.Err()
}

func countAgain(i *Interface, again func(*Interface) (netdev.Counters, error), after time.Duration) {
	if i.Counters.Missing == "" {
		later, err := again(i)
		i.Counters = tried(Counters{i.Counters.Value.Counters, later, after}, err)
	}
}

// maxFactBytes bounds a file of facts: modules.dep of a kernel has 1 MiB, and
// /proc/interrupts 10 MiB on a machine of 512 CPUs.
const maxFactBytes = 32 << 20

func (r *reader) content(name string) Known[string] {
	content, err := r.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return missing[string](notThere(name))
	}
	return tried(content, err)
}

func (r *reader) read(name string) (string, error) {
	file, err := r.source.Files.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // only read from
	content, err := io.ReadAll(io.LimitReader(file, maxFactBytes+1))
	if err == nil && len(content) > maxFactBytes {
		err = fmt.Errorf("/%s has over %d MiB", name, maxFactBytes>>20)
	}
	return string(content), err
}

// text returns a file's content, and nothing if it cannot be read.
func (r *reader) text(name string) string { return r.content(name).Value }

// line returns a file's content without the white space around it.
func (r *reader) line(name string) string { return strings.TrimSpace(r.text(name)) }

func (r *reader) number(name string) Known[int] {
	content := r.content(name)
	if content.Missing != "" {
		return missing[int](content.Missing)
	}
	value, err := strconv.Atoi(strings.TrimSpace(content.Value))
	if err != nil {
		return missing[int]("/" + name + " holds no number")
	}
	return known(value)
}

// link returns the last element of where a symbolic link leads to; empty if there
// is none.
func (r *reader) link(name string) string {
	target, err := fs.ReadLink(r.source.Files, name)
	if err != nil {
		return ""
	}
	return path.Base(target)
}

// list returns the names in a directory, sorted; none if it cannot be read.
func (r *reader) list(name string) []string {
	entries, err := fs.ReadDir(r.source.Files, name) // sorted
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func (r *reader) exists(name string) bool {
	_, err := fs.Stat(r.source.Files, name)
	return err == nil
}

// uptime is how long the kernel has run; 0 if not known.
func (r *reader) uptime() time.Duration {
	first, _, _ := strings.Cut(r.line("proc/uptime"), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// vifs returns the network devices on Xen's bus, and those that no driver has.
func (r *reader) vifs() (all, unbound []string) {
	for _, name := range r.list("sys/bus/xen/devices") {
		if !strings.HasPrefix(name, "vif-") {
			continue
		}
		all = append(all, name)
		if r.link("sys/bus/xen/devices/"+name+"/driver") == "" {
			unbound = append(unbound, name)
		}
	}
	return all, unbound
}

// Why it is not known whether page fragments are single pages.
const (
	// NoSwitch: a kernel without net.core.high_order_alloc_disable.
	NoSwitch = "this kernel has no net.core.high_order_alloc_disable"
	// SwitchElsewhere: settings of the whole machine are shown in its first network
	// namespace alone.
	SwitchElsewhere = "net.core.high_order_alloc_disable is not shown in this network namespace"
)

const singlePagesSwitch = "proc/sys/net/core/high_order_alloc_disable"

func (r *reader) readSinglePages() Known[bool] {
	value := r.number(singlePagesSwitch)
	if value.Missing == "" {
		return known(value.Value != 0)
	}
	if _, err := fs.Stat(r.source.Files, singlePagesSwitch); !errors.Is(err, fs.ErrNotExist) {
		return missing[bool](value.Missing)
	}
	// Its neighbour in the same table, which every kernel has.
	if r.exists("proc/sys/net/core/netdev_max_backlog") {
		return missing[bool](NoSwitch)
	}
	return missing[bool](SwitchElsewhere)
}
