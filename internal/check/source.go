package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
	"xentrace/internal/procfs"
	"xentrace/internal/trace"
)

// A Source is where the facts come from: the running machine, or what a test
// puts in its place.
type Source struct {
	// Files is the machine's root directory.
	Files fs.FS
	// Links returns the interfaces to be judged and the caller's others.
	Links func(ctx context.Context, names []string) (Links, error)
	// LiveCode reads the running driver's code.
	LiveCode func(context.Context) (netfront.Answer, error)
	// SharedInfo is what the running kernel keeps at the end of every head.
	SharedInfo func() (kernel.SharedInfo, error)
	// Log returns the kernel's log.
	Log func(context.Context) (LogRecords, error)
	// Xenstore returns what is at paths relative to this domain's own; of those
	// that are not there, nothing.
	Xenstore func(ctx context.Context, paths []string) (map[string]string, error)
	// Signature is the hypervisor's, by CPUID.
	Signature func() string
	// Release is that of the running kernel.
	Release string
}

// Links are network interfaces.
type Links struct {
	NetNS  uint32 // the caller's network namespace
	Judged []Interface
	Others []Interface // the rest of the caller's namespace
	Unseen string      // why other namespaces were not looked at
	// Again reads the counters once more.
	Again func(i *Interface) (netdev.Counters, error)
}

// Running is the machine that this runs on.
func Running() (Source, error) {
	release, err := kernel.ReadRelease()
	if err != nil {
		return Source{}, err
	}
	return Source{
		Files:     os.DirFS("/"),
		Links:     readLinks,
		Log:       readLog,
		Xenstore:  readXenstore,
		Signature: cpuSignature,
		Release:   release,
	}.WithTypes(""), nil
}

// WithTypes has the kernel's types read from a file: see [kernel.FindTypes].
func (s Source) WithTypes(btf string) Source {
	types := sync.OnceValues(func() (*kernel.Types, error) { return kernel.FindTypes(btf) })
	s.SharedInfo = func() (kernel.SharedInfo, error) {
		found, err := types()
		if err != nil {
			return kernel.SharedInfo{}, err
		}
		return found.SharedInfo()
	}
	s.LiveCode = func(ctx context.Context) (netfront.Answer, error) { return readLiveCode(ctx, types) }
	return s
}

// readLiveCode reads what the running driver does, or returns an error that names
// what it takes to do so.
func readLiveCode(ctx context.Context, types func() (*kernel.Types, error)) (netfront.Answer, error) {
	capabilities, err := kernel.ReadCapabilities()
	if err != nil {
		return netfront.Answer{}, err
	}
	last, err := kernel.LastCapability()
	if err != nil {
		return netfront.Answer{}, err
	}
	for _, need := range capabilities.Missing(last) {
		if need.Required {
			return netfront.Answer{}, errNeedsRoot
		}
	}
	if err := kernel.TryBPF(); err != nil {
		return netfront.Answer{}, err
	}
	symbols, err := kernel.ReadSymbols(netfront.LinearizeSymbols())
	if err != nil {
		return netfront.Answer{}, err
	}
	_ = rlimit.RemoveMemlock() // if it is needed, loading fails
	found, err := types()
	if err != nil {
		found = kernel.NewTypes() // the program that reads code needs none of them
	}
	reader, err := trace.NewCodeReader(found)
	if errors.Is(err, fs.ErrPermission) {
		if lockdown, lockdownErr := kernel.ReadLockdown(); lockdownErr == nil && lockdown.ForbidsTracing() {
			return netfront.Answer{}, errors.New("kernel lockdown forbids reading kernel memory")
		}
	}
	if err != nil {
		return netfront.Answer{}, err
	}
	defer reader.Close()
	return netfront.DriverLinearizes(ctx, symbols, reader)
}

// errNeedsRoot is what a fact is missing for where nothing but privilege is.
var errNeedsRoot = errors.New("that needs root")

// why turns an error into the reason that a fact is not known.
func why(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return errNeedsRoot.Error()
	}
	return err.Error()
}

// notThere is the reason where a file is missing.
func notThere(path string) string { return fmt.Sprintf("there is no /%s", path) }

// readLinks asks the kernel, over netlink.
func readLinks(ctx context.Context, names []string) (Links, error) {
	own, err := netdev.Current()
	if err != nil {
		return Links{}, fmt.Errorf("network interfaces: %w", err)
	}
	defer own.Close()
	links := Links{NetNS: own.Inum(), Again: counters}
	all, err := own.Interfaces()
	if err != nil {
		return Links{}, err
	}
	for _, name := range names {
		named, err := own.ByName(name) // alternative names too
		if errors.Is(err, netdev.ErrNotFound) {
			return Links{}, fmt.Errorf("%w: %w%s", trace.ErrCannotRun, err, kernel.HostNetworkAdvice())
		}
		if err != nil {
			return Links{}, err
		}
		if !links.judges(named) { // by another of its names
			links.Judged = append(links.Judged, look(own, named))
		}
	}
	for _, i := range all {
		switch {
		case links.judges(i):
		case len(names) == 0 && i.IsNetfront():
			links.Judged = append(links.Judged, look(own, i))
		default:
			links.Others = append(links.Others, look(own, i))
		}
	}
	if len(names) == 0 {
		return links, links.addOtherNamespaces(ctx)
	}
	return links, nil
}

func (l *Links) judges(i netdev.Interface) bool {
	return slices.ContainsFunc(l.Judged, func(j Interface) bool { return j.Index == i.Index && j.Namespace == i.Namespace })
}

func (l *Links) addOtherNamespaces(ctx context.Context) error {
	capabilities, err := kernel.ReadCapabilities()
	if err != nil {
		return err
	}
	l.Unseen = kernel.HiddenNetworkNamespaces(capabilities)
	if !capabilities.Has(unix.CAP_SYS_ADMIN) { // none can be entered
		return nil
	}
	found, err := netdev.Namespaces(ctx)
	if err != nil {
		return err
	}
	for _, f := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.Inum == l.NetNS {
			continue
		}
		if err := l.addNamespace(f); err != nil && !errors.Is(err, netdev.ErrNamespaceNotFound) {
			l.Unseen = why(err)
		}
	}
	if stuck := procfs.Machine().Stuck(); stuck > 0 && l.Unseen == "" {
		l.Unseen = fmt.Sprintf("processes that do not let theirs be read: %d", stuck)
	}
	return nil
}

func (l *Links) addNamespace(f netdev.Found) error {
	ns, err := f.Open()
	if err != nil {
		return err
	}
	defer ns.Close()
	interfaces, err := ns.Interfaces()
	for _, i := range interfaces {
		if i.IsNetfront() {
			l.Judged = append(l.Judged, look(ns, i))
		}
	}
	return err
}

// look reads what else the kernel shows of an interface.
func look(ns *netdev.Namespace, i netdev.Interface) Interface {
	counters, err := ns.Counters(i.Index)
	return Interface{
		Interface: i, Path: ns.Path(),
		Features: tried(ns.Features(i.Index)), Counters: tried(Counters{Counters: counters}, err),
	}
}

func counters(i *Interface) (netdev.Counters, error) {
	ns, err := netdev.Found{Inum: i.Namespace, Path: i.Path}.Open()
	if err != nil {
		return netdev.Counters{}, err
	}
	defer ns.Close()
	return ns.Counters(i.Index)
}
