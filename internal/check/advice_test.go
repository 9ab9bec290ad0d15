package check

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/netdev"
)

// rpsOfEth0 is where sys/class/net/eth0 leads to.
const rpsOfEth0 = "sys/devices/vif-0/net/eth0/queues/rx-0/rps_cpus"

// varieties change a guest in each thing that decides about advice.
var varieties = map[string][]func(*guest){
	"MTU": {
		func(*guest) {}, func(g *guest) { g.interfaces[0].MTU = 9001 }, func(g *guest) { g.interfaces[0].MTU = 65517 },
		func(g *guest) { g.interfaces[0].MTU = 65535 },
	},
	"features": {
		func(*guest) {}, func(g *guest) { g.turnOff("sg") }, func(g *guest) { g.turnOff("tso") }, func(g *guest) { g.turnOff("tso", "gso") },
		func(g *guest) { g.turnOff("sg", "tso", "gso") }, func(g *guest) { g.interfaces[0].Features.Value.TSO6 = netdev.Feature{Changeable: true} },
		func(g *guest) {
			f := &g.interfaces[0].Features.Value
			f.ScatterGather.Active, f.TSO.Active, f.TSO6.Active = false, false, false
		},
		func(g *guest) {
			g.interfaces[0].Features = missing[netdev.Features]("ethtool: operation not supported")
		},
	},
	"driver": {
		func(*guest) {}, func(g *guest) { g.without("sys/module/xen_netfront/initstate") },
		func(g *guest) { g.without("sys/module/xen_netfront/parameters/max_queues") },
		func(g *guest) { g.unbound(); g.without("sys/module/xen_netfront") }, (*guest).unbound,
		func(g *guest) { g.unbound(); g.write(map[string]string{"proc/cmdline": "xen_emul_unplug=never"}) },
	},
	"modules": {
		func(*guest) {}, func(g *guest) {
			g.write(map[string]string{"proc/sys/kernel/osrelease": "6.12", "lib/modules/6.12/modules.dep": "kernel/drivers/net/dummy.ko:"})
		},
	},
	"memory": {
		func(g *guest) { g.memory(512<<10, 11264) }, func(g *guest) { g.memory(16<<20, 67584) },
		func(g *guest) { g.memory(16<<20, 262144) }, func(*guest) {},
	},
	"queues": {
		func(*guest) {}, func(g *guest) { g.interfaces[0].Queues = 1 }, func(g *guest) { g.interfaces[0].Queues = 4 },
	},
	"CPUs": {
		func(*guest) {}, func(g *guest) { g.online("0") }, func(g *guest) { g.online("0-3") }, func(g *guest) { g.online("0,2-3") }, func(g *guest) { g.online("2-3") },
	},
	"max_queues": {
		func(*guest) {}, func(g *guest) { g.parameter("1") }, func(g *guest) { g.parameter("8") },
		func(g *guest) {
			g.parameter("1")
			g.write(map[string]string{"etc/modprobe.d/xen.conf": "options xen_netfront max_queues=1 trusted=0"})
		},
		func(g *guest) {
			g.parameter("1")
			g.write(map[string]string{"proc/cmdline": "quiet xen_netfront.max_queues=8"})
		},
	},
	"code": {func(*guest) {}, func(g *guest) { g.live = drops }, func(g *guest) { g.liveErr = errNeedsRoot }},
	"fragments": {
		func(*guest) {}, func(g *guest) { g.write(map[string]string{"proc/sys/net/core/high_order_alloc_disable": "0"}) },
		func(g *guest) { g.write(map[string]string{"proc/sys/net/core/high_order_alloc_disable": "1"}) },
		func(g *guest) { g.write(map[string]string{"proc/sys/net/core/netdev_max_backlog": "1000"}) },
		func(g *guest) { g.write(map[string]string{"proc/sys/net/core/somaxconn": "4096"}) },
		func(g *guest) { g.without("sys/kernel/slab/skbuff_small_head"); g.frags = 45 },
	},
	"log": {
		func(*guest) {}, func(g *guest) { g.logs(9, "xen_netfront: can't alloc tx grant refs\n") },
		func(g *guest) { g.logs(9, "net eth0: Disabled for further use\n SUBSYSTEM=net\n DEVICE=n2\n") },
		func(g *guest) { g.logs(9, "xennet: skb->len = 65550, too big for wire format\n") },
		func(g *guest) { g.logs(9, "misaligned skb allocated\n") },
		func(g *guest) { g.logs(9, "xennet: skb rides the rocket: 20 slots\n") },
		func(g *guest) { g.logs(9, "net eth0: Need more slots\n") },
		func(g *guest) { g.logErr = errNeedsRoot },
	},
	"interrupts": {
		func(*guest) {}, func(g *guest) { g.busy = 2 }, func(g *guest) { g.busy = 1 },
	},
	"irqbalance": {
		func(*guest) {}, func(g *guest) {
			g.write(map[string]string{"usr/sbin/irqbalance": "", "run/systemd/system/x": ""})
		}, func(g *guest) { g.write(map[string]string{"usr/sbin/irqbalance": ""}) }, func(g *guest) { g.write(map[string]string{"usr/sbin/ip": ""}) },
		func(g *guest) { g.write(map[string]string{"run/irqbalance": ""}) },
	},
	"trust": {
		func(*guest) {}, func(g *guest) { g.write(map[string]string{"sys/module/xen_netfront/parameters/trusted": "N"}) },
		func(g *guest) { g.store["device/vif/0/trusted"] = "0" },
	},
	"events": {
		func(*guest) {}, func(g *guest) { g.write(map[string]string{"sys/devices/vif-0/xenbus/spurious_events": "9000"}) },
		func(g *guest) {
			g.write(map[string]string{"sys/devices/vif-0/xenbus/spurious_events": "9000", "sys/devices/vif-0/xenbus/spurious_threshold": "20"})
		},
	},
	"backend": {
		func(*guest) {}, func(g *guest) { g.offer(keyQueues, "1") }, func(g *guest) { g.offer(keyTSO6, "0"); g.offer(keyTSO, "0") },
		func(g *guest) { g.offer(keySG, "0") }, func(g *guest) { g.storeErr = errNeedsRoot }, func(g *guest) { g.offer(keyNoCsum, "1") },
	},
	"PCI": {
		func(*guest) {}, (*guest).ena, func(g *guest) { g.ena(); g.write(map[string]string{"sys/module/ena/initstate": "live"}) },
	},
	"received": {
		func(*guest) {}, func(g *guest) { g.malformed = 3 },
	},
	"host": {func(*guest) {}, func(g *guest) { g.amd("0x0f0000000") }},
	"RPS": {
		func(*guest) {}, func(g *guest) { g.write(map[string]string{rpsOfEth0: "0"}) },
		func(g *guest) { g.write(map[string]string{rpsOfEth0: "3"}) },
	},
}

func (g *guest) memory(total, reserve int) {
	g.write(map[string]string{"proc/meminfo": fmt.Sprintf("MemTotal: %d kB", total), "proc/sys/vm/min_free_kbytes": strconv.Itoa(reserve)})
}

func (g *guest) online(list string) {
	g.write(map[string]string{"sys/devices/system/cpu/online": list})
}

func (g *guest) parameter(queues string) {
	g.write(map[string]string{"sys/module/xen_netfront/parameters/max_queues": queues})
}

// settle writes what follows from what was varied: sysfs and the table of interrupts.
func (g *guest) settle() {
	if g.busy == 0 {
		return
	}
	cpus := facts.CPUList(strings.TrimSpace(string(g.files["sys/devices/system/cpu/online"].Data)))
	head, line := " ", ""
	for n, cpu := range cpus {
		head += fmt.Sprintf(" CPU%d", cpu)
		count := 0
		if n == min(g.busy, len(cpus))-1 {
			count = 50000
		}
		line += fmt.Sprintf(" %d", count)
	}
	g.write(map[string]string{"proc/interrupts": head + "\n 72:" + line + " xen-dyn -event vif0-q0-tx\n 73:" + line + " xen-dyn -event vif0-q0-rx"})
}

func (g *guest) clone() *guest {
	c := *g
	c.files, c.interfaces = maps.Clone(g.files), slices.Clone(g.interfaces)
	return &c
}

// A setting is what a command sets.
type setting struct{ what, to string }

// run does to the guest what a command of advice would do to a machine. The error is how that would
// fail, change nothing, or exceed a limit. What it sets is empty for one that only shows.
func (g *guest) run(command string) (setting, error) {
	command = strings.TrimPrefix(command, "nsenter --target 1 --net -- ")
	fields := strings.Fields(command)
	switch {
	case strings.HasPrefix(command, "ethtool -K eth0 "):
		return setting{"features", strings.Join(fields[3:], " ")}, g.setFeatures(fields[3:])
	case strings.HasPrefix(command, "ip link set dev eth0 mtu "):
		return setting{"mtu", fields[6]}, g.setMTU(fields[6])
	case strings.HasPrefix(command, "sysctl -w "):
		name, value, _ := strings.Cut(fields[2], "=")
		return setting{name, value}, g.sysctl(name, value)
	case strings.HasPrefix(command, "echo 'options xen_netfront "):
		parameter, _, _ := strings.Cut(fields[3], "=")
		return setting{parameter, fields[3]}, g.option(command)
	case strings.HasPrefix(command, "echo 10 > /sys/devices/vif-0/xenbus/"):
		path := fields[3][1:]
		if before, err := strconv.Atoi(strings.TrimSpace(string(g.content(path)))); err != nil || before >= 10 {
			return setting{}, errors.New("no such file, or it is that already")
		}
		g.write(map[string]string{path: "10"})
		return setting{fields[3], "10"}, nil
	case strings.HasPrefix(command, "echo ") && fields[2] == ">":
		return setting{fields[3], fields[1]}, g.setMask(fields[1], fields[3])
	case command == "modprobe ena":
		if g.files["sys/module/ena/initstate"] != nil {
			return setting{}, errors.New("it is loaded")
		}
		g.write(map[string]string{"sys/module/ena/initstate": "live"})
		return setting{command, ""}, nil
	case fields[0] == "modprobe":
		return setting{command, ""}, g.load()
	case command == "systemctl enable --now irqbalance":
		if g.files["usr/sbin/irqbalance"] == nil || g.files["run/systemd/system/x"] == nil || g.files["run/irqbalance"] != nil {
			return setting{}, errors.New("no such service, or it runs")
		}
		g.write(map[string]string{"run/irqbalance": ""})
		return setting{command, ""}, nil
	case slices.Contains([]string{"dmesg", "xentrace", "cat"}, fields[0]), strings.HasPrefix(command, "ip link show "), strings.HasPrefix(command, "ip -s link show "):
		return setting{}, nil
	}
	return setting{}, errors.New("no such command")
}

func (g *guest) setFeatures(changes []string) error {
	f := &g.interfaces[0].Features.Value
	changed := false
	for n := 0; n < len(changes); n += 2 {
		on := changes[n+1] == "on"
		for _, feature := range map[string][]*netdev.Feature{"sg": {&f.ScatterGather}, "tso": {&f.TSO, &f.TSO6}, "gso": {&f.GSO}}[changes[n]] {
			key := map[*netdev.Feature]string{&f.ScatterGather: keySG, &f.TSO: keyTSO, &f.TSO6: keyTSO6}[feature]
			if key != "" && g.store[g.store["device/vif/0/backend"]+key] == "0" {
				continue
			}
			if !feature.Changeable || on && feature != &f.ScatterGather && !f.ScatterGather.Active {
				continue
			}
			changed = changed || feature.Active != on && feature.Requested != on
			feature.Active, feature.Requested = on, on
		}
	}
	if f.ScatterGather.Active {
		f.TSO.Active, f.TSO6.Active = f.TSO.Requested, f.TSO6.Requested
	}
	if !changed {
		return errors.New("could not change any device features")
	}
	return nil
}

func (g *guest) setMTU(text string) error {
	i := &g.interfaces[0]
	mtu, err := strconv.Atoi(text)
	switch {
	case err != nil || mtu < 68 || mtu > 65535 || mtu > 1500 && i.Features.Missing == "" && !i.Features.Value.ScatterGather.Active:
		return errors.New("invalid argument")
	case mtu == i.MTU:
		return errors.New("it is that already")
	}
	i.MTU = mtu
	return nil
}

func (g *guest) sysctl(name, value string) error {
	path := "proc/sys/" + strings.ReplaceAll(name, ".", "/")
	before := g.files[path]
	if before == nil && g.files["proc/sys/net/core/netdev_max_backlog"] != nil {
		return errors.New("no such file")
	}
	if before != nil && strings.TrimSpace(string(before.Data)) == value {
		return errors.New("it is that already")
	}
	if name == "vm.min_free_kbytes" {
		to, _ := strconv.Atoi(value)
		from, _ := strconv.Atoi(strings.TrimSpace(string(before.Data)))
		var total int
		if _, err := fmt.Sscanf(string(g.files["proc/meminfo"].Data), "MemTotal: %d", &total); err != nil || to < from || to > total/20 {
			return fmt.Errorf("%d of %d kB after %d", to, total, from)
		}
	}
	g.write(map[string]string{path: value})
	return nil
}

func (g *guest) option(command string) error {
	text, path, appended := strings.Cut(strings.TrimPrefix(command, "echo '"), "' >> /")
	switch {
	case !appended:
		return errors.New("it overwrites the file")
	case g.files["sys/module/xen_netfront/initstate"] == nil:
		return errors.New("the driver is not a module")
	case strings.Contains(string(g.content("etc/modprobe.d/xen.conf")), "max_queues="), strings.Contains(string(g.content("proc/cmdline")), "max_queues="):
		return errors.New("another place sets it")
	}
	g.write(map[string]string{path: string(g.content(path)) + text})
	return nil
}

func (g *guest) content(name string) []byte {
	if file := g.files[name]; file != nil {
		return file.Data
	}
	return nil
}

func (g *guest) setMask(mask, path string) error {
	bits, err := strconv.ParseUint(mask, 16, 32)
	online := facts.CPUList(strings.TrimSpace(string(g.content("sys/devices/system/cpu/online"))))
	for cpu := range 32 {
		if bits&(1<<cpu) != 0 && !slices.Contains(online, cpu) {
			return fmt.Errorf("CPU %d is offline", cpu)
		}
	}
	path = strings.TrimPrefix(path, "/")
	switch number, of := strings.CutPrefix(path, "proc/irq/"); {
	case err != nil || bits == 0:
		return errors.New("no mask")
	case of:
		number = strings.TrimSuffix(number, "/smp_affinity")
		if !strings.Contains(string(g.content("proc/interrupts")), " "+number+":") {
			return errors.New("no such interrupt")
		}
		g.write(map[string]string{"proc/irq/" + number + "/smp_affinity_list": strconv.Itoa(slices.Index([]uint64{1, 2, 4, 8}, bits))})
	case path != "sys/class/net/eth0/queues/rx-0/rps_cpus":
		return errors.New("no such file")
	case strings.TrimSpace(string(g.content(rpsOfEth0))) == mask:
		return errors.New("it is that already")
	default:
		g.write(map[string]string{rpsOfEth0: mask})
	}
	return nil
}

func (g *guest) load() error {
	if g.files["lib/modules/6.12/modules.dep"] != nil {
		return errors.New("no such module")
	}
	if g.files["sys/module/xen_netfront/parameters/trusted"] != nil || strings.Contains(string(g.content("proc/cmdline")), "xen_emul_unplug=never") {
		return errors.New("it is loaded, or cannot bind")
	}
	g.link("sys/bus/xen/devices/vif-0/driver", "../../../bus/xen/drivers/vif")
	g.interfaces = []Interface{guestNetfront("eth0", 1500)}
	return nil
}

// statuses are those of findings by ID.
func statuses(findings []event.Finding) map[event.FindingID]event.Status {
	all := make(map[event.FindingID]event.Status)
	for _, f := range findings {
		all[f.ID] = max(all[f.ID], f.Status)
	}
	return all
}

// Whatever the machine is like, no command that is recommended fails, repeats what is set, exceeds
// what the machine has, or contradicts another; and once it was run it is not recommended again,
// and nothing is worse.
func TestAdviceOnEveryMachine(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	names := slices.Sorted(maps.Keys(varieties))
	commands := make(map[string]int)
	for range 2500 {
		g, chosen := newGuest(), map[string]int{}
		g.store = maps.Clone(g.store)
		for _, name := range append([]string{"features", "MTU", "queues"}, names...) { // before the driver, which may have no interface
			if _, done := chosen[name]; done {
				continue
			}
			chosen[name] = random.IntN(len(varieties[name]))
			if len(g.interfaces) > 0 || name != "features" {
				varieties[name][chosen[name]](g)
			}
		}
		if i := g.interfaces; len(i) > 0 && i[0].Features.Missing == "" && !i[0].Features.Value.ScatterGather.Active {
			i[0].MTU = 1500
		}
		g.settle()
		checkAdvice(t, g, fmt.Sprint(chosen), commands)
		if t.Failed() {
			return
		}
	}
	for _, command := range []string{"ethtool -K eth0 sg on", "ethtool -K eth0 tso on gso on", "ip link set dev eth0 mtu 65517", "sysctl -w vm.min_free_kbytes=16384", "modprobe xen-netfront",
		"echo 'options xen_netfront max_queues=4' >> /etc/modprobe.d/xen-netfront-queues.conf", "echo d > /sys/class/net/eth0/queues/rx-0/rps_cpus", "systemctl enable --now irqbalance"} {
		if commands[command] == 0 {
			t.Errorf("%s was never recommended", command)
		}
	}
}

func checkAdvice(t *testing.T, g *guest, what string, commands map[string]int) {
	t.Helper()
	findings := Judge(g.read(t))
	before := statuses(findings)
	set := make(map[string]string)
	for _, f := range findings {
		for _, a := range f.Advice {
			if a.Command == "" {
				continue
			}
			commands[a.Command]++
			after := g.clone()
			done, err := after.run(a.Command)
			if err != nil {
				t.Errorf("%s: %s: %s: %v", what, f.ID, a.Command, err)
				continue
			}
			if done.what == "" {
				continue
			}
			if value, other := set[done.what]; other && value != done.to {
				t.Errorf("%s: %s is to be %s and %s", what, done.what, value, done.to)
			}
			set[done.what] = done.to
			for _, later := range Judge(after.read(t)) {
				if later.Status > before[later.ID] && a.ID != "load-driver" {
					t.Errorf("%s: after %s: %s %s: %s", what, a.Command, later.Status, later.ID, later.Message)
				}
				if slices.ContainsFunc(later.Advice, func(again event.Advice) bool { return again.Command == a.Command }) {
					t.Errorf("%s: after %s it is recommended again", what, a.Command)
				}
			}
		}
	}
}
