package facts

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
	"xentrace/test/memory"
)

func machine(files map[string]string) fstest.MapFS {
	all := fstest.MapFS{}
	for name, content := range files {
		all[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return all
}

func TestMachine(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  remedy.Facts
	}{
		{"nothing can be read", nil, remedy.Facts{}},
		{"a guest with the driver as a module", map[string]string{
			"proc/sys/net/core/high_order_alloc_disable": "0\n", "proc/sys/vm/min_free_kbytes": "67584\n",
			"proc/meminfo": "MemTotal:        8052868 kB\nMemFree: 1 kB\n", "sys/devices/system/cpu/online": "0-2,4\n",
			"sys/module/xen_netfront/initstate": "live\n", "sys/module/xen_netfront/parameters/max_queues": "4\n",
			"proc/cmdline": "root=/dev/xvda1 quiet\n",
		}, remedy.Facts{SinglePages: remedy.Off, MinFreeKB: 67584, MemoryKB: 8052868, CPUs: []int{0, 1, 2, 4}, Driver: remedy.Module, MaxQueues: 4}},
		{"the driver built in, single pages", map[string]string{
			"proc/sys/net/core/high_order_alloc_disable": "1\n", "sys/module/xen_netfront/parameters/max_queues": "2\n",
		}, remedy.Facts{SinglePages: remedy.On, Driver: remedy.BuiltIn, MaxQueues: 2}},
		{"a kernel without the switch", map[string]string{"proc/sys/net/core/netdev_max_backlog": "1000\n"}, remedy.Facts{SinglePages: remedy.Absent}},
		{"a network namespace that does not show it", map[string]string{"proc/sys/net/core/somaxconn": "4096\n"}, remedy.Facts{Somaxconn: 4096, OutsideInit: true}},
		{"the emulated NIC stays", map[string]string{"proc/cmdline": "a xen_emul_unplug=never b"}, remedy.Facts{NeverUnplugged: true}},
		{"only emulated disks are unplugged", map[string]string{"proc/cmdline": "xen_emul_unplug=ide-disks", "sys/hypervisor/guest_type": "HVM"}, remedy.Facts{NeverUnplugged: true}},
		{"a PVH guest, which has no emulated NIC", map[string]string{"proc/cmdline": "xen_emul_unplug=never", "sys/hypervisor/guest_type": "PVH"}, remedy.Facts{}},
		{"the kernel has no such module", map[string]string{"sys/module/kernel/parameters/panic": "0", "proc/sys/kernel/osrelease": "6.12.43-cloud",
			"lib/modules/6.12.43-cloud/modules.dep": "kernel/drivers/net/xen-netback/xen-netback.ko.xz:"}, remedy.Facts{Driver: remedy.NoDriver, SpuriousFix: true}},
		{"its module is not loaded", map[string]string{"sys/module/kernel/parameters/panic": "0", "proc/sys/kernel/osrelease": "6.12.43-cloud",
			"usr/lib/modules/6.12.43-cloud/modules.dep": "kernel/drivers/net/xen-netfront.ko.xz:"}, remedy.Facts{Driver: remedy.NotLoaded, SpuriousFix: true}},
		{"the driver is not loaded", map[string]string{"sys/module/kernel/parameters/panic": "0"}, remedy.Facts{Driver: remedy.NotLoaded}},
		{"irqbalance runs", map[string]string{"sys/fs/cgroup/system.slice/irqbalance.service/cgroup.procs": "712\n", "usr/sbin/irqbalance": ""}, remedy.Facts{Irqbalance: remedy.On}},
		{"irqbalance was stopped", map[string]string{"usr/sbin/irqbalance": "", "run/systemd/system/x": ""}, remedy.Facts{Irqbalance: remedy.Off}},
		{"irqbalance without systemd", map[string]string{"usr/sbin/irqbalance": ""}, remedy.Facts{}},
		{"no irqbalance", map[string]string{"usr/sbin/ip": ""}, remedy.Facts{Irqbalance: remedy.Absent}},
		{"parameters in modprobe.d", map[string]string{
			"etc/modprobe.d/b.conf":     "\n# options xen_netfront max_queues=9\noptions xen-netfront trusted=0 max_queues=2\n",
			"usr/lib/modprobe.d/a.conf": "options xen_netfront max_queues=1\n", "usr/lib/modprobe.d/b.conf": "options xen_netfront max_queues=7\n",
		}, remedy.Facts{QueuesIn: "/etc/modprobe.d/b.conf:3", QueuesNext: 2, TrustedIn: "/etc/modprobe.d/b.conf:3"}},
		{"parameters of a built-in driver", map[string]string{
			"etc/modprobe.d/b.conf": "options xen_netfront max_queues=2 trusted=0\n", "sys/module/xen_netfront/parameters/trusted": "Y",
			"proc/cmdline": "xen_netfront.max_queues=1 xen_netfront.max_queues=4 xen_netfront.trusted=1",
		}, remedy.Facts{Driver: remedy.BuiltIn, QueuesIn: OnCommandLine, QueuesNext: 4}},
		{"it is unplugged", map[string]string{"proc/cmdline": "a xen_emul_unplug=all,never1 b"}, remedy.Facts{}},
		{"numbers that are none", map[string]string{"proc/sys/vm/min_free_kbytes": "many", "proc/meminfo": "MemTotal:\nMemTotal: x kB\n"}, remedy.Facts{}},
	} {
		if got := Machine(machine(test.files)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestInterface(t *testing.T) {
	on := netdev.Feature{Active: true, Requested: true, Changeable: true}
	off := netdev.Feature{Changeable: true}
	refused := netdev.Feature{Requested: true, Changeable: true} // by the backend
	i := netdev.Interface{Name: "eth0", MTU: 9001, Queues: 2}
	base := remedy.Facts{Interface: "eth0", MTU: 9001, Queues: 2}
	for _, test := range []struct {
		name               string
		features           *netdev.Features
		sg, tso, tso6, gso remedy.Setting
	}{
		{"not known", nil, 0, 0, 0, 0},
		{"all on", &netdev.Features{ScatterGather: on, TSO: on, TSO6: on, GSO: on}, remedy.On, remedy.On, remedy.On, remedy.On},
		{"scatter-gather off", &netdev.Features{ScatterGather: off, TSO: refused, TSO6: refused, GSO: on}, remedy.Off, remedy.Absent, remedy.Absent, remedy.On},
		{"not offered", &netdev.Features{ScatterGather: refused, TSO: refused, TSO6: refused, GSO: on}, remedy.Absent, remedy.Absent, remedy.Absent, remedy.On},
		{"TSO of IPv6 off", &netdev.Features{ScatterGather: on, TSO: on, TSO6: off, GSO: off}, remedy.On, remedy.On, remedy.Off, remedy.Off},
		{"a device without TSO of IPv6", &netdev.Features{ScatterGather: on, TSO: on, GSO: on}, remedy.On, remedy.On, remedy.Absent, remedy.On},
	} {
		want := base
		want.SG, want.TSO, want.TSO6, want.GSO = test.sg, test.tso, test.tso6, test.gso
		if got := Interface(remedy.Facts{}, i, test.features); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, want)
		}
	}
}

func TestCPUList(t *testing.T) {
	for list, want := range map[string][]int{
		"0": {0}, "0-3": {0, 1, 2, 3}, "0-1,4,6-7": {0, 1, 4, 6, 7},
		"": nil, "x": nil, "3-1": nil, "-1": nil, "0-8191x": nil, "0-99999999": nil, "0,,2": nil,
	} {
		if got := CPUList(list); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", list, got, want)
		}
	}
}

func FuzzCPUList(f *testing.F) {
	for _, list := range []string{"0-3,5", "", "4294967295", "-", "1-0", "0-8191", strings.Repeat("0-8191,", 1000) + "0"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		var cpus []int
		memory.Within(t, 1<<20, func() { cpus = CPUList(list) })
		if len(cpus) > maxCPUs {
			t.Errorf("%q: %d CPUs", list, len(cpus))
		}
		for _, cpu := range cpus {
			if cpu < 0 || cpu >= maxCPUs {
				t.Fatalf("%q: CPU %d", list, cpu)
			}
		}
	})
}

func TestSpuriousFix(t *testing.T) {
	for version, want := range map[string]bool{
		"6.12.43": true, "6.12.42": false, "6.1.149": true, "6.1.148": false, "6.17": true, "6.16.9": false, "7.2.13+deb14-amd64": true,
		"5.10.262": false, "6.12.117+deb12-amd64": true, "6.6.200": false, "": false, "x": false,
	} {
		if got := hasSpuriousFix(version); got != want {
			t.Errorf("%q: %v, want %v", version, got, want)
		}
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]string{
		"Linux version 6.1.0-50-amd64 (x@y) (gcc-12) #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1 (2026-08-01)": "6.1.192",
		"Linux version 6.12.38 (x@y) #1 SMP": "6.12.38",
	} {
		if got := version(machine(map[string]string{"proc/version": text, "proc/sys/kernel/osrelease": "6.12.38\n"})); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
