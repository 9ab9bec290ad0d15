package check

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
)

// A situation is a machine, what is not OK with it, and parts of what is said.
type situation struct {
	name    string
	change  func(*guest)
	notOK   string
	about   event.FindingID
	message []string // parts of the message, the evidence or the commands of that finding
}

func situations() []situation {
	return []situation{
		{"a t2 instance with 6.12", func(*guest) {}, "", Virtualization, []string{"Guest of Xen 4.11.amazon on EC2, type HVM."}},
		{"a Nitro instance", func(g *guest) {
			g.without("sys/hypervisor")
			g.write(map[string]string{"sys/class/dmi/id/sys_vendor": "Amazon EC2", "sys/class/dmi/id/product_name": "t3.micro"})
			g.signature = "KVMKVMKVM"
			g.interfaces, g.others = nil, []Interface{otherDevice("eth0", "ena", 9001)}
		}, "", Virtualization, []string{"on Nitro (t3.micro), not on Xen"}},
		{"a KVM guest", func(g *guest) {
			g.without("sys/hypervisor")
			g.without("sys/class/dmi")
			g.signature, g.interfaces = "KVMKVMKVM", nil
		}, "", Virtualization, []string{"Guest of KVM, not of Xen"}},
		{"a physical machine", func(g *guest) {
			g.without("sys/hypervisor")
			g.without("sys/class/dmi")
			g.write(map[string]string{"proc/cpuinfo": "flags\t\t: fpu vme"})
			g.signature, g.interfaces = "", nil
		}, "", DriverOf, []string{"No interface is driven by xen-netfront"}},
		{"a machine that shows nothing", func(g *guest) {
			g.without("sys")
			g.without("proc")
			g.signature, g.interfaces = "", nil
		}, "UNKNOWN virtualization", Virtualization, []string{"Hypervisor unknown: there is no /sys/hypervisor"}},
		{"a Xen guest without interfaces, and without /sys", func(g *guest) {
			g.without("sys")
			g.interfaces = nil
		}, "UNKNOWN driver", DriverOf, []string{"Network devices without a driver cannot be seen: there is no /sys/bus."}},
		{"a Xen guest without interfaces, and with namespaces that cannot be read", func(g *guest) {
			g.interfaces, g.unseen = nil, "too many open files"
		}, "UNKNOWN driver", DriverOf, []string{"Other network namespaces were not checked: too many open files."}},
		{"a KVM guest with namespaces that cannot be read", func(g *guest) {
			g.without("sys/hypervisor")
			g.without("sys/class/dmi")
			g.signature, g.interfaces, g.unseen = "KVMKVMKVM", nil, "that needs root"
		}, "", DriverOf, []string{"Other network namespaces were not checked: that needs root."}},
		{"dom0", func(g *guest) {
			g.write(map[string]string{"proc/xen/capabilities": "control_d", "sys/hypervisor/guest_type": "PV"})
			g.interfaces = nil
		}, "", Virtualization, []string{"dom0 of Xen 4.11.amazon"}},
		{"a container in a Xen guest, without any files of the machine", func(g *guest) {
			g.without("sys")
			g.without("lib")
			g.unprivileged()
			g.storeErr = errors.New(notThere("dev/xen/xenbus"))
		}, "UNKNOWN linearize, UNKNOWN kernel_log, UNKNOWN bounce, UNKNOWN checksum, UNKNOWN queues, UNKNOWN event_channels, UNKNOWN better_device", Virtualization, []string{"according to the CPU"}},
		{"a Qubes PVH guest of old, 5.10, scatter-gather off", func(g *guest) {
			g.write(map[string]string{"sys/hypervisor/guest_type": "PVH"})
			g.without("sys/kernel/slab/skbuff_small_head")
			g.turnOff("sg")
		}, "WARN scatter_gather", ScatterGather, []string{"still fit 1 slot", "ethtool -K eth0 sg on", "small_heads_crossing 0"}},
		{"scatter-gather off on 6.12", func(g *guest) { g.turnOff("sg") },
			"FAIL scatter_gather", ScatterGather, []string{"1 of 23 objects of 704 bytes", "ethtool -K eth0 sg on"}},
		{"scatter-gather off on 6.18", func(g *guest) {
			g.write(map[string]string{"sys/kernel/slab/skbuff_small_head/slab_size": "576", "sys/kernel/slab/skbuff_small_head/objs_per_slab": "14"})
			g.turnOff("sg")
		}, "FAIL scatter_gather", ScatterGather, []string{"1 of 14 objects of 576 bytes"}},
		{"scatter-gather off on 7.2, one CPU", func(g *guest) {
			g.write(map[string]string{"sys/kernel/slab/skbuff_small_head/slab_size": "704", "sys/kernel/slab/skbuff_small_head/objs_per_slab": "11"})
			g.turnOff("sg")
		}, "WARN scatter_gather", ScatterGather, []string{"still fit 1 slot", "small_heads_crossing 0"}},
		{"scatter-gather off, one CPU, a slab of one page", func(g *guest) {
			g.write(map[string]string{"sys/kernel/slab/skbuff_small_head/slab_size": "640", "sys/kernel/slab/skbuff_small_head/objs_per_slab": "6"})
			g.turnOff("sg")
		}, "WARN scatter_gather", ScatterGather, []string{"small_heads_in_slab 6, small_heads_crossing 0"}},
		{"scatter-gather off, only slabinfo", func(g *guest) {
			g.without("sys/kernel/slab")
			g.write(map[string]string{"proc/slabinfo": "slabinfo - version: 2.1\n# name\nskbuff_small_head 100 112 640 12 2 : tunables"})
			g.turnOff("sg")
		}, "FAIL scatter_gather", ScatterGather, []string{"1 of 12 objects of 640 bytes"}},
		{"scatter-gather off, not root", func(g *guest) {
			g.unprivileged()
			g.liveErr = nil
			g.turnOff("sg")
		}, "WARN scatter_gather, UNKNOWN kernel_log, UNKNOWN bounce, UNKNOWN checksum", ScatterGather, []string{"is unknown: that needs root"}},
		{"a backend without scatter-gather", func(g *guest) {
			g.interfaces[0].Features.Value.ScatterGather.Active = false
			g.interfaces[0].Features.Value.TSO.Active = false
		}, "FAIL scatter_gather", ScatterGather, []string{"The backend does not offer scatter-gather: change that in dom0."}},
		{"the MTU that ec2rl advises cannot be", func(g *guest) { g.turnOff("sg") },
			"FAIL scatter_gather", MTU, []string{"The 9001 that ec2rl advises cannot be set"}},
		{"an XCP-ng guest with TSO and GSO off", func(g *guest) {
			g.write(map[string]string{"sys/hypervisor/version/extra": ".5-15", "sys/hypervisor/version/minor": "17", "sys/class/dmi/id/bios_version": "4.17"})
			g.turnOff("tso", "gso")
		}, "WARN offload", Offload, []string{"GSO are off: a workaround for a defect that this driver does not have", "ethtool -K eth0 tso on gso on"}},
		{"a backend without TSO", func(g *guest) { g.interfaces[0].Features.Value.TSO.Active = false },
			"", Offload, []string{"the backend does not offer it"}},
		{"the driver before the fix, MTU 9001", func(g *guest) {
			g.live = drops
			g.interfaces[0].MTU = 9001
		}, "FAIL linearize, WARN mtu", LinearizeCode, []string{"drops every packet over 18 slots", "ip link set dev eth0 mtu 1500", "high_order_alloc_disable=1", "read_from running kernel"}},
		{"the driver before the fix, with single pages", func(g *guest) {
			g.live = drops
			g.write(map[string]string{"proc/sys/net/core/high_order_alloc_disable": "1"})
		}, "FAIL linearize", LinearizeCode, []string{"New page fragments are single pages", "single_pages true", "Update the kernel"}},
		{"the driver before the fix, on a kernel without the switch", func(g *guest) {
			g.live = drops
			g.write(map[string]string{"proc/sys/net/core/netdev_max_backlog": "1000"})
		}, "FAIL linearize", LinearizeCode, []string{"single_pages unknown", "Update the kernel"}},
		{"the driver before the fix, MTU 9001, TSO and GSO off", func(g *guest) {
			g.live = drops
			g.turnOff("tso", "gso")
			g.interfaces[0].MTU = 9001
		}, "FAIL linearize, WARN mtu, WARN offload", Offload, []string{"avoids only some of this driver's drops"}},
		{"the driver before the fix, MTU 1500, TSO and GSO off", func(g *guest) {
			g.live = drops
			g.turnOff("tso", "gso")
		}, "FAIL linearize", Offload, []string{"Leave it until the kernel is updated"}},
		{"the driver before the fix, 5.10, scatter-gather off", func(g *guest) {
			g.live = drops
			g.without("sys/kernel/slab/skbuff_small_head")
			g.turnOff("sg")
		}, "FAIL linearize, WARN scatter_gather", ScatterGather, []string{"keeps packets over 18 slots away from this driver", "Update the kernel"}},
		{"the driver before the fix, 6.12, scatter-gather off", func(g *guest) {
			g.live = drops
			g.turnOff("sg")
		}, "FAIL linearize, FAIL scatter_gather", ScatterGather, []string{"but small packets whose head straddles a page boundary are dropped instead"}},
		{"5.10 without BTF", func(g *guest) { g.fragsErr = kernel.ErrNoTypes },
			"UNKNOWN skb_frags", SkbFrags, []string{"no BTF type information"}},
		{"45 fragments", func(g *guest) { g.frags = 45 }, "", SkbFrags, []string{"45 fragments", "The driver linearizes those"}},
		{"45 fragments and the driver before the fix", func(g *guest) { g.frags, g.live = 45, drops },
			"FAIL linearize, WARN skb_frags", SkbFrags, []string{"this driver drops those"}},
		{"not root, without the module on disk", func(g *guest) {
			g.unprivileged()
			g.interfaces[0].MTU = 9001
		}, "UNKNOWN linearize, UNKNOWN mtu, UNKNOWN kernel_log, UNKNOWN bounce, UNKNOWN checksum", LinearizeCode,
			[]string{"Running code: that needs root. File on disk: there is no /lib/modules/6.12.117+deb12-amd64."}},
		{"every packet copied, by the parameter", func(g *guest) { g.write(map[string]string{"sys/module/xen_netfront/parameters/trusted": "N"}) },
			"WARN bounce", Bounce, []string{"trusted=0 marks the backend as untrusted", "parameter_trusted false, xenstore_trusted true"}},
		{"every packet copied, by the host", func(g *guest) { g.store["device/vif/0/trusted"] = "0" },
			"WARN bounce", Bounce, []string{"xenstore marks this interface's backend as untrusted"}},
		{"a driver that cannot copy", func(g *guest) { g.without("sys/module/xen_netfront/parameters/trusted") },
			"", Bounce, []string{"too old to copy packets (XSA-403)"}},
		{"drops in the past", func(g *guest) { g.interfaces[0].Counters.Value.TxDropped = 50 },
			"WARN tx_dropped", TxDropped, []string{"50 packets dropped and 100000 sent", "at most 4 days ago (at least 0.5 per hour)", "xentrace watch -i eth0"}},
		{"drops right now", func(g *guest) { g.later = 7 },
			"FAIL tx_dropped", TxDropped, []string{"7 of the drops came while this command ran"}},
		{"no carrier", func(g *guest) { g.interfaces[0].Running = false }, "FAIL driver", DriverOf, []string{"has no carrier"}},
		{"a vif that no driver has", func(g *guest) {
			g.unbound()
			g.without("sys/module/xen_netfront")
		}, "WARN driver", DriverOf, []string{"vif-0", "modprobe xen-netfront"}},
		{"a vif that no driver has, with the emulated NIC", func(g *guest) {
			g.unbound()
			g.without("sys/module/xen_netfront")
			g.write(map[string]string{"proc/cmdline": "root=/dev/sda xen_emul_unplug=never"})
		}, "WARN driver", DriverOf, []string{"| Remove xen_emul_unplug= from the kernel command line"}},
		{"a vif that the loaded driver has not bound", (*guest).unbound, "WARN driver", DriverOf, []string{"interfaces | dmesg"}},
		{"one queue by the parameter", func(g *guest) {
			g.write(map[string]string{"sys/module/xen_netfront/parameters/max_queues": "1", "sys/devices/system/cpu/online": "0-3"})
			g.interfaces[0].Queues = 1
		}, "WARN queues", Queues, []string{"1 queue for 4 CPUs, because the driver's parameter max_queues is 1", "max_queues=4"}},
		{"one queue by the backend", func(g *guest) {
			g.write(map[string]string{"sys/module/xen_netfront/parameters/max_queues": "8", "sys/devices/system/cpu/online": "0-2,4-8"})
			g.offer(keyQueues, "1")
			g.interfaces[0].Queues = 1
		}, "WARN queues", Queues, []string{"1 queue for 8 CPUs, because the backend offers no more", "echo 1f7 > /sys/class/net/eth0/queues/rx-0/rps_cpus"}},
		{"one queue, and a backend that offers 8", func(g *guest) {
			g.write(map[string]string{"sys/module/xen_netfront/parameters/max_queues": "4", "sys/devices/system/cpu/online": "0-3"})
			g.interfaces[0].Queues = 1
		}, "WARN queues", Queues, []string{"although the driver allows 4 and the backend offers 8", "xl network-detach"}},
		{"two queues by the parameter, in a file that has more", func(g *guest) {
			g.write(map[string]string{"sys/module/xen_netfront/parameters/max_queues": "1", "etc/modprobe.d/xen.conf": "options xen_netfront trusted=1\noptions xen_netfront max_queues=1"})
			g.interfaces[0].Queues = 1
		}, "WARN queues", Queues, []string{"Change max_queues in /etc/modprobe.d/xen.conf:2 to 2"}},
		{"malformed packets received", func(g *guest) {
			g.interfaces[0].Counters.Value.RxErrors, g.interfaces[0].Counters.Value.RxPackets = 40, 5000
			g.logs(9, "net eth0: rx->offset: 4000, size: 200\n SUBSYSTEM=net\n DEVICE=n2\n")
		}, "WARN receive, WARN kernel_log", Receive, []string{"The driver dropped 40 malformed packets from the backend", "log has 1 message about malformed", "logged 1", "update the kernel that runs xen-netback"}},
		{"malformed packets right now", func(g *guest) { g.malformed = 3 }, "FAIL receive", Receive, []string{"3 of them while"}},
		{"received packets that nothing handles", func(g *guest) {
			g.interfaces[0].Counters.Value.RxDropped, g.interfaces[0].Counters.Value.RxPackets = 200, 5000
		}, "WARN receive", Receive, []string{"dropped 200 received packets, 4.0 % (rx_dropped)", "softnet_stat"}},
		{"a few received packets that nothing handles", func(g *guest) {
			g.interfaces[0].Counters.Value.RxDropped, g.interfaces[0].Counters.Value.RxPackets = 200, 500_000
		}, "", Receive, []string{"500000 packets received, none counted as malformed; 200 dropped by the network core"}},
		{"spurious events", func(g *guest) {
			g.write(map[string]string{"sys/devices/vif-0/xenbus/spurious_events": "4500", "sys/devices/vif-0/xenbus/jiffies_eoi_delayed": "9000"})
			g.write(map[string]string{"proc/version": "Linux version 6.12.38+deb13-amd64 (x@y) (gcc) #1 SMP Debian 6.12.38-1 (2025-07-16)"})
		}, "WARN event_channels", EventChannels, []string{"4500 of 90000 events were spurious", "XSA-332) by 9000 jiffies", "Linux 6.1.149, 6.12.43 and 6.17", "echo 10 > /sys/devices/vif-0/xenbus/spurious_threshold"}},
		{"a kernel that does not count spurious events", func(g *guest) { g.without("sys/devices/vif-0/xenbus") },
			"UNKNOWN event_channels", EventChannels, []string{"does not count them (before 5.12)"}},
		{"an AMD host with an uncached grant table", func(g *guest) { g.amd("0x0f0000000") },
			"WARN grant_table", GrantTableOf, []string{"The grant table is uncached", "xen_platform_pci_bar_uc=0", "cpu_vendor AuthenticAMD", "uncached true"}},
		{"an AMD host with a cached one", func(g *guest) { g.amd("0x0e0000000") }, "", GrantTableOf, []string{"no uncached MTRR covers it"}},
		{"an AMD host and no MTRRs", func(g *guest) {
			g.amd("0x0")
			g.without("proc/mtrr")
		}, "UNKNOWN grant_table", GrantTableOf, []string{"there is no /proc/mtrr"}},
		{"a PVH guest of an AMD host", func(g *guest) {
			g.amd("0x0f0000000")
			g.write(map[string]string{"sys/hypervisor/guest_type": "PVH"})
		}, "UNKNOWN grant_table", GrantTableOf, []string{"cannot be known from inside"}},
		{"an arm64 host", func(g *guest) {
			g.write(map[string]string{"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41", "sys/hypervisor/guest_type": "PVH"})
		}, "", GrantTableOf, []string{"does not concern this CPU (ARM)"}},
		{"a PV guest of an AMD host", func(g *guest) {
			g.amd("0x0f0000000")
			g.write(map[string]string{"sys/hypervisor/guest_type": "PV"})
		}, "", GrantTableOf, []string{"ordinary memory"}},
		{"a backend that does not accept blank checksums", func(g *guest) { g.offer(keyNoCsum, "1") },
			"WARN checksum", Checksum, []string{"does not accept blank checksums, and the frontend sends them", "backend_ipv4 false"}},
		{"a backend that does not accept those of IPv6, in a router", func(g *guest) {
			g.offer(keyCsumOf6, "0")
			g.write(map[string]string{"proc/sys/net/ipv4/ip_forward": "1"})
		}, "", Checksum, []string{"Only one end accepts blank checksums of IPv6", "peers that verify them (FreeBSD) drop"}},
		{"a backend without TSO, which an administrator turned off too", func(g *guest) {
			g.turnOff("tso")
			g.offer(keyTSO, "0")
			g.offer(keyTSO6, "0")
		}, "", Offload, []string{"TSO and TSO for IPv6 are off, and the backend does not offer"}},
		{"all interrupts on one CPU", func(g *guest) {
			g.write(map[string]string{"proc/interrupts": "  CPU0 CPU1\n 72: 50000 1 xen-dyn -event eth0-q0-tx\n 73: 60000 0 xen-dyn -event eth0-q0-rx\n 74: 0 90000 xen-dyn -event eth01"})
		}, "WARN interrupts", Interrupts, []string{"All 2 interrupts of the interface go to CPU 0", "echo 2 > /proc/irq/73/smp_affinity", "count 110001"}},
		{"all interrupts on CPU 2, and CPU 1 offline", func(g *guest) {
			g.write(map[string]string{"sys/devices/system/cpu/online": "0,2-3",
				"proc/interrupts": "  CPU0 CPU2 CPU3\n 72: 1 50000 0 xen-dyn -event vif0-q0-tx\n 73: 0 60000 0 xen-dyn -event vif0-q0-rx"})
		}, "WARN interrupts", Interrupts, []string{"go to CPU 2, so its 2 queues do not help", "busiest_cpu 2", "echo 1 > /proc/irq/73/smp_affinity"}},
		{"all interrupts of one queue on one CPU", func(g *guest) {
			g.write(map[string]string{"proc/interrupts": "  CPU0 CPU1\n 72: 50000 1 xen-dyn -event vif0-q0-tx\n 73: 60000 0 xen-dyn -event vif0-q0-rx"})
			g.interfaces[0].Queues = 1
		}, "WARN queues, WARN interrupts", Interrupts, []string{"All 2 interrupts of the interface go to CPU 0.,"}},
		{"all interrupts on one CPU although irqbalance runs", func(g *guest) {
			g.busy = 1
			g.settle()
			g.write(map[string]string{"run/irqbalance": ""})
		}, "WARN interrupts", Interrupts, []string{"echo 2 > /proc/irq/73/smp_affinity", "--banirq=73"}},
		{"no module for the device on Xen's bus", func(g *guest) {
			g.unbound()
			g.without("sys/module/xen_netfront")
			g.write(map[string]string{"proc/sys/kernel/osrelease": "6.12.1-cloud", "lib/modules/6.12.1-cloud/modules.dep": "kernel/drivers/net/dummy.ko:"})
		}, "WARN driver", DriverOf, []string{"without a driver: vif-0", "This kernel has no module xen-netfront"}},
		{"an interrupt that was moved just now", func(g *guest) {
			g.write(map[string]string{"proc/irq/73/smp_affinity_list": "1", "proc/irq/72/smp_affinity_list": "0-1",
				"proc/interrupts": "  CPU0 CPU1\n 72: 50000 1 xen-dyn -event vif0-q0-tx\n 73: 60000 0 xen-dyn -event vif0-q0-rx"})
		}, "", Interrupts, []string{"Interrupts went to CPU 0 so far; 1 of 2 now may not."}},
		{"interrupts of another name", func(g *guest) {
			g.write(map[string]string{"proc/interrupts": "  CPU0 CPU1\n 72: 50000 1 xen-dyn -event vif00-q0-tx"})
		},
			"UNKNOWN interrupts", Interrupts, []string{"/proc/interrupts has none of its name"}},
		{"an ENA that no driver has", (*guest).ena, "WARN better_device", BetterDevice, []string{"Amazon ENA at 0000:00:05.0 has no driver", "modprobe ena"}},
		{"an ENA that its driver, which is loaded, does not have", func(g *guest) { g.ena(); g.write(map[string]string{"sys/module/ena/initstate": "live"}) },
			"WARN better_device", BetterDevice, []string{"Amazon ENA at 0000:00:05.0 has no driver", "dmesg | grep -e 0000:00:05.0", "did not bind"}},
		{"an 82599 that is down", func(g *guest) {
			g.write(map[string]string{"sys/bus/pci/devices/0000:00:03.0/vendor": "0x8086", "sys/bus/pci/devices/0000:00:03.0/device": "0x10ed",
				"sys/bus/pci/devices/0000:00:03.0/net/eth1/ifindex": "3"})
			g.link("sys/bus/pci/devices/0000:00:03.0/driver", "../../../bus/pci/drivers/ixgbevf")
		}, "WARN better_device", BetterDevice, []string{"(eth1) is not up", "ip link set dev eth1 up"}},
		{"an 82599 that is up", func(g *guest) {
			g.write(map[string]string{"sys/bus/pci/devices/0000:00:03.0/vendor": "0x8086", "sys/bus/pci/devices/0000:00:03.0/device": "0x10ed",
				"sys/bus/pci/devices/0000:00:03.0/net/eth1/ifindex": "3"})
			g.link("sys/bus/pci/devices/0000:00:03.0/driver", "../../../bus/pci/drivers/ixgbevf")
			g.others = []Interface{otherDevice("eth1", "ixgbevf", 9001)}
		}, "", BetterDevice, []string{"Up alongside the frontend"}},
		{"an XL710 virtual function that no driver has", func(g *guest) {
			g.write(map[string]string{"sys/bus/pci/devices/0000:00:04.0/vendor": "0x8086", "sys/bus/pci/devices/0000:00:04.0/device": "0x154c",
				"sys/bus/pci/devices/0000:00:04.0/class": "0x020000", "sys/bus/pci/devices/0000:00:04.0/subsystem_vendor": "0x8086"})
		}, "WARN better_device", BetterDevice, []string{"PCI network device 8086:154c at 0000:00:04.0 has no driver", "lspci -nn -s 0000:00:04.0"}},
		{"an ENA that no driver has, and an 82599 that is down", func(g *guest) {
			g.ena()
			g.write(map[string]string{"sys/bus/pci/devices/0000:00:06.0/vendor": "0x8086", "sys/bus/pci/devices/0000:00:06.0/device": "0x10ed",
				"sys/bus/pci/devices/0000:00:06.0/net/eth1/ifindex": "3"})
			g.link("sys/bus/pci/devices/0000:00:06.0/driver", "../../../bus/pci/drivers/ixgbevf")
		}, "WARN better_device", BetterDevice, []string{"Amazon ENA at 0000:00:05.0 has no driver; Intel 82599 virtual function at 0000:00:06.0 (eth1) is not up. Traffic through them would bypass the frontend.", "modprobe ena", "ip link set dev eth1 up"}},
		{"an emulated NIC that no driver has", func(g *guest) {
			g.write(map[string]string{"sys/bus/pci/devices/0000:00:04.0/vendor": "0x10ec", "sys/bus/pci/devices/0000:00:04.0/device": "0x8139",
				"sys/bus/pci/devices/0000:00:04.0/class": "0x020000", "sys/bus/pci/devices/0000:00:04.0/subsystem_vendor": "0x5853"})
		}, "", BetterDevice, []string{"No PCI network device."}},
		{"a disk controller that no driver has", func(g *guest) {
			g.write(map[string]string{"sys/bus/pci/devices/0000:00:04.0/vendor": "0x8086", "sys/bus/pci/devices/0000:00:04.0/class": "0x010802"})
		}, "", BetterDevice, []string{"No PCI network device."}},
		{"a ConnectX in another network namespace", func(g *guest) {
			g.write(map[string]string{"sys/bus/pci/devices/0000:00:04.0/vendor": "0x15b3", "sys/bus/pci/devices/0000:00:04.0/device": "0x1018", "sys/bus/pci/devices/0000:00:04.0/class": "0x020000"})
			g.link("sys/bus/pci/devices/0000:00:04.0/driver", "../../../bus/pci/drivers/mlx5_core")
		}, "", BetterDevice, []string{"Without an interface in this network namespace: PCI network device 15b3:1018 at 0000:00:04.0 (driver mlx5_core)"}},
		{"an MTU of 65535", func(g *guest) { g.interfaces[0].MTU = 65535 }, "WARN mtu", MTU, []string{"ip link set dev eth0 mtu 65517"}},
		{"the backend misbehaved", func(g *guest) {
			g.logs(259200, "net eth0: Illegal number of responses 260\n SUBSYSTEM=net\n DEVICE=n2\n", "net eth0: Disabled for further use\n SUBSYSTEM=net\n DEVICE=n2\n")
		}, "FAIL kernel_log", KernelLog, []string{"disabled an interface because its backend misbehaved (1, eth0, 27 hours ago)", "disabled 1, misbehaviour 1", "dmesg | grep -B 2 -e 'Disabled for further use'"}},
		{"an interface that was disabled and attached again", func(g *guest) {
			g.logs(3600, "net eth0: Disabled for further use\n SUBSYSTEM=net\n DEVICE=n2\n")
			g.interfaces[0].Index = 5
		}, "", KernelLog, []string{"about an interface as it is now", "Before the interface was connected anew: the frontend disabled an interface because its backend misbehaved (1, eth0, 4 days ago).", "disabled 1"}},
		{"an interface that was disabled before the machine was resumed", func(g *guest) {
			g.logs(3600, "net eth0: Disabled for further use\n SUBSYSTEM=net\n DEVICE=n2\n", "xen:grant_table: Grant tables using version 1 layout\n")
		}, "", KernelLog, []string{"Before the interface was connected anew"}},
		{"an interface that was disabled and sends again", func(g *guest) {
			g.logs(3600, "net eth0: Disabled for further use\n SUBSYSTEM=net\n DEVICE=n2\n")
			g.sent = 3
		}, "", KernelLog, []string{"Before the interface was connected anew"}},
		{"grants are exhausted", func(g *guest) {
			g.logs(7, "xen_netfront: can't alloc rx grant refs\n", "vif vif-0: only created 1 queues\n SUBSYSTEM=xen\n DEVICE=+xen:vif-0\n")
			g.write(map[string]string{"sys/devices/system/cpu/online": "0-3", "sys/module/xen_netfront/parameters/max_queues": "1"})
			g.interfaces[0].Queues = 1
		}, "FAIL kernel_log, WARN queues", KernelLog, []string{"grant references were exhausted, so queues could not be set up (1, 4 days ago); fewer queues were created than negotiated (1, vif-0, 4 days ago)", "raise max_grant_frames"}},
		{"a network device without queues", func(g *guest) {
			g.logs(7, "vif vif-1: no queues\n", "vif vif-1: 12 creating queues\n")
			g.link("sys/bus/xen/devices/vif-1/driver", "../../../bus/xen/drivers/vif")
		}, "FAIL kernel_log", KernelLog, []string{"an interface got no queues (1, vif-1, 4 days ago); connecting an interface to its backend failed (1, vif-1"}},
		{"another driver's words", func(g *guest) {
			g.logs(7, "vbd vbd-51712: 28 starting transaction\n", "nvme nvme0: no queues\n", "writing things\n")
		}, "", KernelLog, []string{"No known message of xen-netfront in the kernel log."}},
		{"dynamic debug with a driver that linearizes", func(g *guest) {
			g.log = append(g.log, "7,9,3,-;xen_netfront: xennet: skb rides the rocket: 19 slots, 3000 bytes\n")
		}, "", KernelLog, []string{"were linearized and sent (harmless) (1, 4 days ago)"}},
		{"the message with the driver before the fix", func(g *guest) {
			g.live = drops
			g.log = append(g.log, "1,9,3,-;xennet: skb rides the rocket: 19 slots\n", "4,10,4,-;net_ratelimit: 12 callbacks suppressed\n")
		}, "FAIL linearize, FAIL kernel_log", KernelLog, []string{"over 18 slots were dropped (1, 4 days ago)", "suppressed 12 network messages"}},
		{"a log that wrapped", func(g *guest) { g.log = []string{"6,900,7200000000,-;eth0: link up\n"} },
			"", KernelLog, []string{"Its oldest message is from 2 hours after boot"}},
		{"no ethtool in this kernel", func(g *guest) {
			g.interfaces[0].Features = missing[netdev.Features]("ethtool: operation not supported")
		}, "UNKNOWN scatter_gather, UNKNOWN offload", Offload, []string{"operation not supported"}},
		{"an interface of another driver, by name", func(g *guest) { g.interfaces = []Interface{otherDevice("eth0", "virtio_net", 1500)} },
			"", DriverOf, []string{"eth0 is driven by virtio_net, not by xen-netfront"}},
		{"an interface in a container's namespace", func(g *guest) {
			inside := guestNetfront("eth0", 1500)
			inside.Namespace, inside.Path, inside.Queues = 4026532999, "/run/netns/a b", 1
			g.interfaces = []Interface{inside}
			g.turnOff("sg")
		}, "FAIL scatter_gather, WARN queues", ScatterGather, []string{"nsenter --net='/run/netns/a b' -- ethtool -K eth0 sg on"}},
		{"a name that is a command", func(g *guest) {
			g.interfaces[0].Name, g.interfaces[0].Queues = "$(reboot)", 1
		}, "WARN queues", Queues, []string{"echo 3 > /sys/class/net/'$(reboot)'/queues/rx-0/rps_cpus"}},
	}
}

func TestSituations(t *testing.T) {
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			g := newGuest()
			s.change(g)
			findings := Judge(g.read(t))
			if got := notOK(findings); got != s.notOK {
				t.Errorf("not OK: %q, want %q", got, s.notOK)
			}
			found := find(findings, s.about)
			if len(found) != 1 {
				t.Fatalf("%d findings on %s, want 1", len(found), s.about)
			}
			text := everything(&found[0])
			for _, part := range s.message {
				if !strings.Contains(strings.ToLower(text), strings.ToLower(part)) {
					t.Errorf("no %q in %s", part, text)
				}
			}
			checkManners(t, findings)
		})
	}
}

// checkManners is what holds for every finding.
func checkManners(t *testing.T, findings []event.Finding) {
	t.Helper()
	last := event.Fail
	for _, f := range findings {
		text := everything(&f)
		if f.Status > last {
			t.Errorf("%s %s comes too late", f.Status, f.ID)
		}
		last = f.Status
		if f.Message == "" || !strings.HasSuffix(f.Message, ".") || strings.Contains(f.Message, "..") && !strings.Contains(f.Message, "/..") {
			t.Errorf("%s: %q is no sentence", f.ID, f.Message)
		}
		if strings.Contains(text, "{") || strings.Contains(text, "%!") || strings.Contains(text, "  ") {
			t.Errorf("%s: something was not filled in: %s", f.ID, text)
		}
		if (f.Status == event.Warn || f.Status == event.Fail) && len(f.Advice) == 0 && f.ID != SkbFrags {
			t.Errorf("%s %s has no advice", f.Status, f.ID)
		}
		for _, a := range f.Advice {
			if strings.HasPrefix(a.Command, "xentrace ") && !strings.HasPrefix(a.Command, "xentrace watch ") {
				t.Errorf("%s: advice names %q", f.ID, a.Command)
			}
		}
	}
}

func everything(f *event.Finding) string {
	parts := []string{f.Message}
	for _, fact := range f.Evidence {
		parts = append(parts, strings.TrimSpace(fact.Key+" "+text(fact.Value)))
	}
	all := strings.Join(parts, ", ")
	for _, a := range f.Advice {
		all += " | " + strings.Join(slices.DeleteFunc([]string{a.Command, a.Effect, a.Cost}, func(s string) bool { return s == "" }), " | ")
	}
	return all
}

// A kernel with an old number has the fix of spurious interrupts if its driver's code shows it.
func TestSpuriousFixOfTheRunningCode(t *testing.T) {
	for leaves, want := range map[bool]int{false: 1, true: 0} {
		g := newGuest()
		g.write(map[string]string{
			"sys/devices/vif-0/xenbus/spurious_events": "4500", "sys/devices/vif-0/xenbus/jiffies_eoi_delayed": "9000",
			"proc/version": "Linux version 6.12.0-55.el10.x86_64 (x@y) (gcc) #1 SMP", "proc/sys/kernel/osrelease": "6.12.0-55.el10.x86_64\n",
		})
		g.live = linearizes
		g.live.LeavesResponses = leaves
		advised := 0
		for _, a := range find(Judge(g.read(t)), EventChannels)[0].Advice {
			if a.ID == string(remedy.SpuriousFix) {
				advised++
			}
		}
		if advised != want {
			t.Errorf("the driver leaves responses: %v; advised to update %d times, want %d", leaves, advised, want)
		}
	}
}
