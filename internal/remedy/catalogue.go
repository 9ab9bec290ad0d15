package remedy

import "slices"

const (
	plainMTU        = 1500  // the most that the driver accepts without scatter-gather
	longAcceptQueue = 4096  // net.core.somaxconn of Linux 5.4 and later
	largestMTU      = 65517 // with an Ethernet header and a VLAN tag: the 65,535 bytes of a ring request
)

// Predicates of facts. What is not known does not rule a remedy out, unless it would do harm.

func notLinearizing(f *Facts) bool { return f.Linearizes != On }

func usable(s Setting) bool { return s == NotKnown || s == Off }

func anyOf(f *Facts, a, b Setting) bool {
	return slices.ContainsFunc([]Setting{f.TSO, f.TSO6, f.GSO}, func(s Setting) bool { return s == a || s == b })
}

// OffloadsOff reports whether an administrator turned off TSO or GSO.
func (f *Facts) OffloadsOff() bool { return anyOf(f, Off, Off) }

// fewQueues: fewer than there could be, with grants for more. A kernel without the parameter
// max_queues has one queue, and no way to more.
func fewQueues(f *Facts) bool {
	return !f.NoGrants && f.Queues > 0 && f.Queues < f.wantedQueues() && f.MaxQueues > 0
}

// limited: the driver's parameter is the limit. A driver that is allowed more than the interface
// has got all that the backend offers.
func limited(f *Facts) bool {
	return fewQueues(f) && f.MaxQueues <= f.Queues && (f.BackendQueues == 0 || f.BackendQueues > f.Queues)
}

var catalogue = map[ID]Remedy{
	SinglePages: {
		Command: "sysctl -w net.core.high_order_alloc_disable=1", First: true,
		Effect:  "New fragments are single pages that cannot straddle, so copied data stays within the limit. Queued segments keep their layout.",
		Cost:    "Bulk senders allocate more often and use slightly more CPU.",
		Applies: func(f *Facts) bool { return usable(f.SinglePages) },
	},
	SGOn: {
		Command: "ethtool -K {ifname} sg on",
		Effect:  "The driver accepts packets of up to 18 slots again, and none is dropped for needing 2.",
		Cost:    "A driver that does not linearize then drops packets over 18 slots instead.",
		Applies: func(f *Facts) bool { return usable(f.SG) && f.Linearizes != Off },
	},
	SGOff: {
		Command: "ethtool -K {ifname} sg off",
		Effect:  "Frees a stalled connection: the kernel copies each packet into one buffer. Turn sg, tso and gso on again once nothing is stalled, and restore the MTU.",
		Cost:    "Meanwhile the MTU is at most 1500, bulk senders use much more CPU, and Linux 6.3 and later drop small packets.",
		Applies: func(f *Facts) bool { return f.SG != Off && f.SG != Absent },
	},
	SGBackend: {
		Effect:  "The backend does not offer scatter-gather: change that in dom0.",
		Applies: func(f *Facts) bool { return f.SG == Absent },
	},
	OffloadOff: {
		Command: "ethtool -K {ifname} tso off gso off",
		Effect:  "Packets are no longer than the MTU, so a buffer for the copy is easily found.",
		Cost:    "Bulk senders use much more CPU. Packets of many small fragments can still be over the limit.",
		Applies: func(f *Facts) bool { return anyOf(f, NotKnown, On) },
	},
	OffloadOn: {
		Command: "ethtool -K {ifname} tso on gso on",
		Effect:  "Bulk senders use less CPU. Also remove what turned it off at boot: a script, udev rule or interface configuration.",
		// Both need scatter-gather, and a driver that drops over the limit is better off without.
		Applies: func(f *Facts) bool { return f.OffloadsOff() && (f.SG == On || f.SG == NotKnown) && f.Linearizes != Off },
	},
	MTU1500: {
		Command: "ip link set dev {ifname} mtu 1500",
		Effect:  "Queued segments are re-segmented at their next retransmission. That frees a stalled connection, unless it writes small fragments.",
		Cost:    "All traffic of the interface loses jumbo frames.",
		Applies: func(f *Facts) bool { return f.MTU > plainMTU },
	},
	MTU65517: {
		Command: "ip link set dev {ifname} mtu 65517",
		Effect:  "A full frame with Ethernet header and VLAN tag then has 65,535 bytes, the most a ring request can describe.",
		// A driver that drops over the slot limit needs an MTU of 1500.
		Applies: func(f *Facts) bool { return f.MTU > largestMTU && f.Linearizes != Off },
	},
	UpdateKernel: {
		Effect:  "Update the kernel: since Linux 3.17 (and in stable kernels with the backport) the driver linearizes such packets.",
		Cost:    "A reboot.",
		Applies: notLinearizing,
	},
	GROLimit: {
		Effect:  "The MTU does not allow such a packet: it was merged by GRO and forwarded. On the receiving interface limit GRO (ip link set dev NAME gro_max_size 65000, iproute2 5.19) or turn it off (ethtool -K NAME gro off).",
		Cost:    "Forwarding uses more CPU.",
		Applies: func(f *Facts) bool { return f.MTU != 0 && f.MTU <= largestMTU },
	},
	MemoryReserve: {
		Command: "sysctl -w vm.min_free_kbytes={reserve}",
		Effect:  "The kernel keeps more memory free for allocations that cannot wait, like the driver's.",
		Cost:    "Everything else has that much less memory.",
		Applies: func(f *Facts) bool { return f.MemoryKB != 0 && f.MinFreeKB != 0 && f.reserve() > f.MinFreeKB },
	},
	MaxQueues: {
		Command: "echo 'options xen_netfront max_queues={queues}' >> /etc/modprobe.d/xen-netfront-queues.conf",
		Effect:  "One queue per CPU, up to 8, each with its own ring and interrupt, as far as the backend offers them. Rebuild the initramfs if the driver is loaded from there.",
		Cost:    "A reboot, and memory for each queue.",
		Applies: func(f *Facts) bool { return f.Driver == Module && f.QueuesIn == "" && limited(f) },
	},
	QueuesBuiltIn: {
		Effect:  "Add xen_netfront.max_queues={queues} to the kernel command line: one queue per CPU, up to 8, as far as the backend offers them.",
		Cost:    "A reboot, and memory for each queue.",
		Applies: func(f *Facts) bool { return f.Driver == BuiltIn && f.QueuesIn == "" && limited(f) },
	},
	QueuesSet: {
		Effect:  "Change max_queues in {queuesin} to {queues}: one queue per CPU, up to 8, as far as the backend offers them.",
		Cost:    "A reboot, and memory for each queue.",
		Applies: func(f *Facts) bool { return f.QueuesIn != "" && f.QueuesNext <= f.Queues && limited(f) },
	},
	QueuesPending: {
		Effect:  "Reboot: {queuesin} allows more queues than the driver was loaded with.",
		Applies: func(f *Facts) bool { return f.QueuesIn != "" && f.QueuesNext > f.Queues && limited(f) },
	},
	BackendQueues: {
		Effect: "In dom0: raise max_queues of xen-netback, so that it offers more queues.",
		Cost:   "The interface is reconnected.",
		Applies: func(f *Facts) bool {
			return fewQueues(f) && f.MaxQueues > f.Queues && f.BackendQueues <= f.Queues
		},
	},
	GrantFrames: {
		Effect:  "In dom0: raise max_grant_frames in the guest's configuration (Xen 4.10), or gnttab_max_frames on Xen's command line. A queue needs 512 grants, 1 frame.",
		Cost:    "A restart of the guest.",
		Applies: func(f *Facts) bool { return f.NoGrants },
	},
	FewerQueues: {
		Effect:  "Or use fewer queues (xen_netfront.max_queues), or fewer disks and interfaces: all take grants.",
		Applies: func(f *Facts) bool { return f.NoGrants && f.Queues != 1 },
	},
	RPS: {
		Command: "echo {cpus} > /sys/class/net/{ifname}/queues/rx-0/rps_cpus",
		Effect:  "Spreads received packets over the CPUs by flow (RPS), with one queue too.",
		Cost:    "An IPI per batch.",
		Applies: func(f *Facts) bool {
			return len(f.CPUs) > 1 && f.Queues < 2 && f.Enter == "" && f.RPSCPUs != Mask(f.CPUs)
		},
	},
	Irqbalance: {
		Command: "systemctl enable --now irqbalance",
		Effect:  "Spreads the interrupts of several queues over the CPUs.",
		Applies: func(f *Facts) bool { return f.Queues > 1 && len(f.CPUs) > 1 && f.Irqbalance == Off },
	},
	GetIrqbalance: {
		Effect:  "Install irqbalance: it spreads the interrupts of several queues over the CPUs.",
		Applies: func(f *Facts) bool { return f.Queues > 1 && len(f.CPUs) > 1 && f.Irqbalance == Absent },
	},
	IRQAffinity: {
		Command: "echo {irqcpu} > /proc/irq/{irq}/smp_affinity",
		Effect:  "Moves interrupt {irq} to a CPU that handles none of the interface's, until the next boot.",
		Applies: func(f *Facts) bool { return f.IRQ != "" && f.IRQCPU != "" },
	},
	IRQBanned: {
		Effect:  "Keep irqbalance, which runs, from moving it back: start it with --banirq={irq}.",
		Applies: func(f *Facts) bool { return f.IRQ != "" && f.IRQCPU != "" && f.Irqbalance == On },
	},
	LoadDriver: {
		Command: "modprobe xen-netfront",
		Effect:  "Loads the driver, which creates the interface.",
		Applies: func(f *Facts) bool { return (f.Driver == NotLoaded || f.Driver == DriverNotKnown) && !f.NeverUnplugged },
	},
	GetDriver: {
		Effect:  "This kernel has no module xen-netfront: install the package with all of its modules, or a kernel with CONFIG_XEN_NETDEV_FRONTEND.",
		Applies: func(f *Facts) bool { return f.Driver == NoDriver && !f.NeverUnplugged },
	},
	Unplug: {
		Effect:  "Remove xen_emul_unplug= from the kernel command line, or add nics to it: the driver binds only if the emulated NIC was unplugged at boot.",
		Cost:    "A reboot; the interface gets another name.",
		Applies: func(f *Facts) bool { return f.NeverUnplugged },
	},
	TrustBackend: {
		Effect:  "Find where the driver's parameter trusted=0 is set, in the initramfs too. Without it packets are sent without a copy after the next boot.",
		Cost:    "A compromised backend can then read what else is in the pages of a packet.",
		Applies: func(f *Facts) bool { return f.TrustedIn == "" },
	},
	TrustSet: {
		Effect:  "Remove trusted=0 from {trustedin}. Packets are then sent without a copy after the next boot.",
		Cost:    "A compromised backend can then read what else is in the pages of a packet.",
		Applies: func(f *Facts) bool { return f.TrustedIn != "" },
	},
	TrustInDom0: {
		Effect: "The host decides: the guest's configuration in dom0 has trusted=0 in its vif line.",
		Cost:   "A compromised backend could read what else is in the pages of a packet.",
	},
	LoadBetter: {
		Command: "modprobe {module}",
		Effect:  "Loads its driver, which creates an interface.",
		Cost:    "Addresses and routes have to move to the new interface.",
		Applies: func(f *Facts) bool { return f.Module != "" && !f.Loaded },
	},
	GetBetter: {
		Command: "lspci -nn -s {address}",
		Effect:  "Shows what it is. This kernel has no module for it: install the module's package, or update the kernel.",
		Cost:    "Addresses and routes have to move to the new interface.",
		Applies: func(f *Facts) bool { return f.Address != "" && f.Module == "" },
	},
	BetterUp: {
		Command: "ip link set dev {device} up",
		Effect:  "Brings it up; then configure its address.",
		Applies: func(f *Facts) bool { return f.Device != "" },
	},
	Somaxconn: {
		Command: "sysctl -w net.core.somaxconn=4096",
		Effect:  "Allows a longer accept queue once the application listens again with a larger backlog.",
		Cost:    "Connections wait longer while the application stays slow.",
		// A listener with a smaller backlog has set its own limit.
		Applies: func(f *Facts) bool {
			return f.Enter == "" && f.Somaxconn > 0 && f.Somaxconn < longAcceptQueue && (f.Backlog == 0 || f.Backlog >= f.Somaxconn)
		},
	},
	AcceptFaster: {
		Command: "{netns}ss -ltnp{listener}",
		Effect:  "Shows the listener, its queue (Recv-Q), its limit (Send-Q) and its process. Accept faster: more accepting threads, or several listeners with SO_REUSEPORT.",
		Cost:    "A change of the application or its configuration.",
	},
	FewerPackets: {
		Effect: "Send fewer, larger packets: keep connections open, collect small writes (TCP_CORK, MSG_MORE, writev) and datagrams (UDP_SEGMENT). A slot carries 4,096 bytes at the same cost as 60.",
		Cost:   "A change of the application; collecting adds delay.",
	},
	BypassDevice: {
		Effect: "Use a network device that bypasses Xen where the provider has one (SR-IOV, ENA): several times the packet rate.",
		Cost:   "Another instance type or driver, and a reboot.",
	},
	LessLoadedHost: {
		Effect: "Move the guest to a less loaded host, or to an instance type with dedicated CPUs.",
		Cost:   "A migration, or a costlier instance.",
	},
	Dom0Weight: {
		Command: "xl sched-credit2 -d Domain-0 -w 1024",
		Effect:  "In dom0: gives dom0 four times the default weight. Removing a cap (-c 0), if there is one, does more.",
		Cost:    "Guests get less when the host is full.",
	},
	Dom0Pin: {
		Command: "xl vcpu-pin Domain-0 all 0-1",
		Effect:  "In dom0: pins dom0's vCPUs to CPUs of their own; keep guests off these.",
		Cost:    "Guests lose these CPUs.",
	},
	GuestWeight: {
		Command: "xl sched-credit2",
		Effect:  "In dom0: shows weights and caps. Raise the guest's weight (-w), or remove its cap (-c 0).",
		Cost:    "Other guests get less.",
	},
	BackendDebug: {
		Effect: "In dom0: echo 'module xen_netback +p' > /sys/kernel/debug/dynamic_debug/control makes netback log why it rejects packets. No counter shows it.",
	},
	SpuriousFix: {
		Effect:  "Update the kernel, unless its xen-netfront has the fix of spurious TX interrupts already: Linux 6.1.149, 6.12.43 and 6.17 have it.",
		Cost:    "A reboot.",
		Applies: func(f *Facts) bool { return f.Spurious && !f.SpuriousFix },
	},
	SpuriousThreshold: {
		Command: "echo 10 > /sys/devices/{vif}/xenbus/spurious_threshold",
		Effect:  "Interrupts are delayed only after 10 spurious events in a row, until the next boot.",
		Cost:    "A misbehaving backend can use more of this guest's CPU.",
		Applies: func(f *Facts) bool {
			return f.Spurious && f.Vif != "" && f.SpuriousThreshold > 0 && f.SpuriousThreshold < 10
		},
	},
	SpuriousHost: {
		Effect:  "Update Xen and dom0's kernel too: the first fixes of XSA-332 delayed events of backends that behave.",
		Cost:    "A restart of the host.",
		Applies: func(f *Facts) bool { return f.Spurious },
	},
	GrantTableCached: {
		Effect: "On the host: XCP-ng 8.3 with xen 4.17.5-15.2 or later, or xen_platform_pci_bar_uc=0 in the guest's configuration (Xen 4.21).",
		Cost:   "An update of the host, and a restart of the guest.",
	},
	ChecksumInDom0: {
		Effect: "In dom0: make the backend accept blank checksums, or update what serves the interface (feature-no-csum-offload in xenstore).",
		Cost:   "The interface is reconnected.",
	},
	UpdateBackend: {
		Effect: "In dom0: update the kernel that runs xen-netback, or what else serves the interface.",
		Cost:   "A restart of dom0 or of the driver domain.",
	},
	Reattach: {
		Effect: "Detach and attach the interface in dom0 (xl network-detach, xl network-attach).",
		Cost:   "Connections over the interface break.",
	},
	WatchDriver: {
		Command: "xentrace watch -i {ifname}",
		Effect:  "Shows each packet that the driver drops from now on, and why.",
		Applies: func(f *Facts) bool { return f.Enter == "" },
	},
	WatchElsewhere: {
		Effect: "The stack of a drop names the functions that led to it: --drops all -v prints it, and JSON has it as stack.",
	},
	ReportPacket: {
		Command: "xentrace watch -i {ifname} -o json",
		Effect:  "Records such a packet in full. Report it together with the output of xentrace version.",
		Applies: func(f *Facts) bool { return f.Enter == "" },
	},
	LogOfDriver: {
		Command: "dmesg | grep -i -e xennet -e vif",
		Effect:  "Shows what failed.",
	},
	LogOfBetter: {
		Command: "dmesg | grep -e {address}",
		Effect:  "Its driver is loaded and did not bind to it: the kernel log may show why.",
		Applies: func(f *Facts) bool { return f.Module != "" && f.Loaded && f.Address != "" },
	},
	LogOfBroken: {
		Command: "dmesg | grep -B 2 -e 'Disabled for further use'",
		Effect:  "Shows what the backend did.",
	},
	LinkState: {
		Command: "ip -s link show dev {ifname}",
		Effect:  "Shows state, MTU and counters of the interface.",
	},
	BacklogState: {
		Command: "cat /proc/net/softnet_stat",
		Effect:  "Shows per CPU, in the second column in hexadecimal, the packets that a full backlog dropped (net.core.netdev_max_backlog).",
	},
	CarrierState: {
		Command: "ip link show dev {ifname}",
		Effect:  "Shows NO-CARRIER while the backend is not connected; look at the other end in dom0 (xl network-list). A moment of it is normal during resume and migration.",
	},
	FeatureState: {
		Command: "ethtool -k {ifname}",
		Effect:  "Shows the features. A few such drops while they change are normal.",
	},
	Rejected: {
		Effect: "Compare the packets: netback rejects those of over 19 slots, those with under 14 bytes in the first slot, and those whose pages it cannot map or copy.",
	},
	QdiscState: {
		Command: "tc -s qdisc show dev {ifname}",
		Effect:  "Shows the qdisc, its limit, and what it dropped and has queued.",
	},
	ClassState: {
		Command: "tc -s class show dev {ifname}",
		Effect:  "Shows the same per class.",
	},
	QueueLength: {
		Effect: "A queue that is full now and then slows TCP down to what the interface can send. A longer queue drops less and delays more.",
	},
	Neighbours: {
		Command: "ip neigh show dev {ifname}",
		Effect:  "Shows FAILED or INCOMPLETE for a next hop that does not answer.",
	},
	NFTRules: {
		Command: "{netns}nft list ruleset",
		Effect:  "Shows the rules; those with a counter show how many packets they matched.",
	},
	IPTablesRules: {
		Command: "{netns}iptables-save -c; {netns}ip6tables-save -c",
		Effect:  "Shows rules made with the older tools, with counts.",
	},
	ConntrackState: {
		Command: "{netns}conntrack -S",
		Effect:  "Shows the counters of connection tracking per CPU.",
	},
	NATPorts: {
		Effect: "Two connections were to get the same address and port: give NAT more ports or addresses, or random ones (masquerade random-fully).",
	},
	ConntrackMax: {
		Effect: "Raise net.netfilter.nf_conntrack_max, or find what makes so many connections (conntrack -L).",
		Cost:   "About 320 bytes of kernel memory per connection.",
	},
	EgressFilters: {
		Command: "tc -s filter show dev {ifname} egress",
		Effect:  "Shows filters and actions with counts, BPF programs included.",
	},
	CgroupPrograms: {
		Command: "bpftool cgroup tree",
		Effect:  "Shows the programs of each cgroup; systemd's IPAddressDeny= is one.",
	},
	Routes: {
		Command: "ip route show table all dev {ifname}",
		Effect:  "Shows the routes over the interface.",
	},
	XfrmPolicy: {
		Command: "{netns}ip -s xfrm policy",
		Effect:  "Shows the policies with counts.",
	},
	PathMTU: {
		Command: "ip link show dev {ifname}",
		Effect:  "Shows the MTU. If the sender keeps sending such packets, ICMP is filtered on the way.",
	},
	LinkNesting: {
		Command: "{netns}ip -d link show",
		Effect:  "Shows which interface is stacked on which, and where tunnels lead.",
	},
	RouteLoop: {
		Effect: "Look for a routing loop with traceroute -n to the destination.",
	},
}
