package check

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
)

const ownNamespace = 4026531840

// A guest is a machine that a test makes up: its files and what else is asked.
type guest struct {
	files      fstest.MapFS
	denied     []string // files that may not be read
	interfaces []Interface
	others     []Interface
	unseen     string
	later      uint64 // packets dropped while the check runs
	busy       int    // which of the CPUs has all interrupts, from 1; 0 for as they are
	malformed  uint64 // packets received while it runs
	sent       uint64 // packets sent while it runs
	live       netfront.Answer
	liveErr    error
	frags      int
	fragsErr   error
	log        []string
	cleared    int // of those records, before the log was last cleared
	logErr     error
	store      map[string]string
	storeErr   error
	signature  string
}

var (
	linearizes = netfront.Answer{Value: netfront.Linearizes, Evidence: "xennet_start_xmit+0x81a calls __pskb_pull_tail"}
	drops      = netfront.Answer{Value: netfront.Drops, Evidence: "xennet_start_xmit never calls __pskb_pull_tail"}
)

// newGuest is a Xen HVM guest on EC2 with Linux 6.12 and two CPUs, with
// which nothing is wrong.
func newGuest() *guest {
	g := &guest{files: fstest.MapFS{}, live: linearizes, frags: 17, store: netfrontStore(), signature: xenSignature,
		log: []string{"6,0,0,-;Linux version 6.12.117+deb12-amd64\n SUBSYSTEM=x\n", "6,1,100,-;xen_netfront: Initialising Xen virtual ethernet driver\n"}}
	g.write(map[string]string{
		"sys/hypervisor/type": "xen", "sys/hypervisor/guest_type": "HVM", "sys/hypervisor/version/major": "4",
		"sys/hypervisor/version/minor": "11", "sys/hypervisor/version/extra": ".amazon",
		"sys/class/dmi/id/sys_vendor": "Xen", "sys/class/dmi/id/product_name": "HVM domU", "sys/class/dmi/id/bios_version": "4.11.amazon",
		"sys/kernel/slab/kmalloc-64/slab_size":            "64",
		"sys/kernel/slab/skbuff_small_head/slab_size":     "704",
		"sys/kernel/slab/skbuff_small_head/objs_per_slab": "23",
		"sys/module/kernel/parameters/panic":              "0", "sys/module/xen_netfront/initstate": "live",
		"sys/module/xen_netfront/parameters/trusted":    "Y",
		"sys/module/xen_netfront/parameters/max_queues": "2",
		"sys/devices/system/cpu/online":                 "0-1",
		"proc/uptime":                                   "360000.00 700000.00",
		"sys/devices/vif-0/xenbus/events":               "90000", "sys/devices/vif-0/xenbus/spurious_events": "12",
		"sys/devices/vif-0/xenbus/jiffies_eoi_delayed": "3", "sys/devices/vif-0/xenbus/spurious_threshold": "1",
		"proc/cpuinfo": "vendor_id\t: GenuineIntel\nflags\t\t: fpu vme hypervisor\n",
		"proc/interrupts": "           CPU0       CPU1\n" +
			"  72:       5000        100  xen-dyn  -event  vif0-q0-tx\n" +
			"  73:        100       5000  xen-dyn  -event  vif0-q0-rx\n NMI:  0  0   Non-maskable interrupts\n",
	})
	g.link("sys/class/net/eth0", "../../devices/vif-0/net/eth0")
	g.link("sys/devices/vif-0/net/eth0/device/driver/module", "../../../../module/xen_netfront")
	g.link("sys/bus/xen/devices/vif-0/driver", "../../../bus/xen/drivers/vif")
	g.interfaces = []Interface{guestNetfront("eth0", 1500)}
	return g
}

// netfrontStore is what xenstore has of an interface with every feature.
func netfrontStore() map[string]string {
	const backend = "/local/domain/0/backend/vif/7/0"
	return map[string]string{
		"device/vif/0": "", "device/vif/0/backend": backend, "device/vif/0/feature-ipv6-csum-offload": "1",
		backend + keySG: "1", backend + keyTSO: "1", backend + keyTSO6: "1", backend + keyQueues: "8", backend + keyCsumOf6: "1",
	}
}

// netfront is an interface of the frontend with every feature on.
func guestNetfront(name string, mtu int) Interface {
	return Interface{
		Interface: netdev.Interface{Name: name, Index: 2, Namespace: ownNamespace, Driver: netdev.DriverNetfront, BusInfo: "vif-0", MTU: mtu, Queues: 2, Up: true, Running: true},
		Features:  known(allFeatures()),
		Counters:  known(Counters{Counters: netdev.Counters{TxPackets: 100000}}),
		Path:      "/proc/self/ns/net",
	}
}

func allFeatures() netdev.Features {
	on := netdev.Feature{Active: true, Requested: true, Changeable: true}
	return netdev.Features{ScatterGather: on, TSO: on, TSO6: on, GSO: on}
}

// otherDevice is an interface of another driver.
func otherDevice(name, driver string, mtu int) Interface {
	i := guestNetfront(name, mtu)
	i.Driver, i.BusInfo, i.Index = driver, "0000:00:05.0", 3
	return i
}

func (g *guest) write(files map[string]string) {
	for name, content := range files {
		g.files[name] = &fstest.MapFile{Data: []byte(content + "\n"), Mode: 0o444}
	}
}

func (g *guest) link(name, target string) {
	g.files[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

// ena adds a device that is passed through, and the module for it.
func (g *guest) ena() {
	g.write(map[string]string{"sys/bus/pci/devices/0000:00:05.0/vendor": "0x1d0f", "sys/bus/pci/devices/0000:00:05.0/device": "0xec20",
		"sys/bus/pci/devices/0000:00:05.0/modalias":      "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00",
		"lib/modules/6.12.117+deb12-amd64/modules.alias": "alias pci:v00001D0Fd0000EC21sv*sd*bc*sc*i* other\nalias pci:v00001D0Fd0000EC20sv*sd*bc*sc*i* ena"})
}

// unbound takes the interface away from its driver.
func (g *guest) unbound() {
	g.without("sys/bus/xen/devices/vif-0")
	g.write(map[string]string{"sys/bus/xen/devices/vif-0/devtype": "vif"})
	g.interfaces = nil
}

// offer is what the backend has in xenstore for a key.
func (g *guest) offer(key, value string) { g.store[g.store["device/vif/0/backend"]+key] = value }

// amd makes the host one of AMD, whose firmware made the memory from an address on uncached.
func (g *guest) amd(uncached string) {
	g.write(map[string]string{
		"proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor",
		"sys/bus/pci/devices/0000:00:02.0/vendor": "0x5853", "sys/bus/pci/devices/0000:00:02.0/device": "0x0001", "sys/bus/pci/devices/0000:00:02.0/class": "0xff8000",
		"sys/bus/pci/devices/0000:00:02.0/resource": "0x000000000000c000 0x000000000000c0ff 0x0000000000040101\n0x00000000f2000000 0x00000000f2ffffff 0x0000000000042208",
		"proc/mtrr": "reg00: base=" + uncached + " ( 3840MB), size=  128MB, count=1: uncachable\nreg01: base=0x0f8000000 ( 3968MB), size=  128MB, count=1: uncachable",
	})
}

// logs adds messages to the log, of that many seconds after the boot.
func (g *guest) logs(seconds int, messages ...string) {
	for _, message := range messages {
		g.log = append(g.log, fmt.Sprintf("4,%d,%d,-;%s", len(g.log), seconds*1_000_000, ofDevice(message)))
		seconds++
	}
}

// ofDevice adds to a message of a device of the driver what the kernel adds.
func ofDevice(message string) string {
	text := strings.TrimSuffix(message, "\n")
	if strings.Contains(text, "\n") {
		return message
	}
	switch words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ':' }); {
	case strings.HasPrefix(text, "vif "):
		text += "\n SUBSYSTEM=xen\n DEVICE=+xen:" + words[1]
	case strings.HasPrefix(text, "net "):
		text += "\n SUBSYSTEM=net\n DEVICE=n2"
	}
	return text + "\n"
}

// without takes away every file below a path.
func (g *guest) without(prefix string) {
	maps.DeleteFunc(g.files, func(name string, _ *fstest.MapFile) bool {
		return name == prefix || strings.HasPrefix(name, prefix+"/")
	})
}

// turnOff turns features off for every interface, as an administrator would.
func (g *guest) turnOff(features ...string) {
	for n := range g.interfaces {
		f := &g.interfaces[n].Features.Value
		for _, feature := range features {
			switch feature {
			case "sg": // and what cannot be without it
				f.ScatterGather = netdev.Feature{Changeable: true}
				f.TSO.Active, f.TSO6.Active = false, false
			case "tso":
				f.TSO, f.TSO6 = netdev.Feature{Changeable: true}, netdev.Feature{Changeable: true}
			case "gso":
				f.GSO = netdev.Feature{Changeable: true}
			}
		}
	}
}

// unprivileged takes away what only root may read.
func (g *guest) unprivileged() {
	g.liveErr, g.logErr, g.storeErr = errNeedsRoot, fs.ErrPermission, fs.ErrPermission
	g.denied = append(g.denied, "sys/kernel/slab/skbuff_small_head", "proc/slabinfo")
	g.unseen = errNeedsRoot.Error()
}

// Open refuses what may not be read.
func (g *guest) Open(name string) (fs.File, error) {
	for _, denied := range g.denied {
		if name == denied || path.Dir(name) == denied {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
	}
	return g.files.Open(name)
}

// Stat works without reading, and Lstat and ReadLink as the files' own.
func (g *guest) Stat(name string) (fs.FileInfo, error)  { return g.files.Stat(name) }
func (g *guest) Lstat(name string) (fs.FileInfo, error) { return g.files.Lstat(name) }
func (g *guest) ReadLink(name string) (string, error)   { return g.files.ReadLink(name) }

func (g *guest) source() Source {
	return Source{
		Files: g, Release: "6.12.117+deb12-amd64",
		Links: func(_ context.Context, names []string) (Links, error) {
			return Links{NetNS: ownNamespace, Judged: g.interfaces, Others: g.others, Unseen: g.unseen,
				Again: func(i *Interface) (netdev.Counters, error) {
					again := i.Counters.Value.Counters
					again.TxDropped += g.later
					again.TxPackets += g.sent
					again.RxErrors += g.malformed
					return again, nil
				}}, nil
		},
		LiveCode:   func(context.Context) (netfront.Answer, error) { return g.live, g.liveErr },
		SharedInfo: func() (kernel.SharedInfo, error) { return kernel.SharedInfo{MaxFrags: g.frags, Bytes: 320}, g.fragsErr },
		Log:        func(context.Context) (LogRecords, error) { return LogRecords{g.log, g.cleared}, g.logErr },
		Xenstore:   func(context.Context, []string) (map[string]string, error) { return g.store, g.storeErr },
		Signature:  func() string { return g.signature },
	}
}

func (g *guest) read(t *testing.T) *Machine {
	t.Helper()
	m, err := Read(t.Context(), g.source(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// find returns the findings of an id.
func find(findings []event.Finding, id event.FindingID) []event.Finding {
	var found []event.Finding
	for _, f := range findings {
		if f.ID == id {
			found = append(found, f)
		}
	}
	return found
}

// notOK lists what is not OK: "FAIL scatter_gather, WARN mtu".
func notOK(findings []event.Finding) string {
	var all []string
	for _, f := range findings {
		if f.Status != event.OK {
			all = append(all, fmt.Sprintf("%s %s", f.Status, f.ID))
		}
	}
	return strings.Join(all, ", ")
}

// text is a value of evidence.
func text(value any) string {
	if value == nil {
		return "unknown"
	}
	return fmt.Sprint(value)
}
