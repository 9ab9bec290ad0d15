package verdict

import "xentrace/internal/event"

// Advice that several limits share.
var (
	otherDevice = event.Advice{
		Effect: "Use a network device that bypasses Xen where the provider has one (SR-IOV, ENA): no ring shared with dom0, no grants, and several times as many packets a second.",
		Cost:   "Another type of instance, or another driver; a restart.",
	}
	fewerPackets = event.Advice{
		Effect: "Let the application send fewer and larger packets: keep connections open, collect small writes (TCP_CORK, MSG_MORE, writev) and datagrams (UDP_SEGMENT). A slot carries up to 4096 bytes, and costs the same with 60.",
		Cost:   "A change to the application; collecting delays what is collected.",
	}
	segmentation = event.Advice{
		Command: "ethtool -K {ifname} sg on tso on gso on",
		Effect:  "One request then carries a whole run of TCP segments, where they were off.",
	}
	moreQueues = event.Advice{
		Command: "echo 'options xen_netfront max_queues={queues}' > /etc/modprobe.d/xen-netfront.conf",
		Effect:  "Gives the interface a queue for each processor, up to eight, each with a ring and an interrupt of its own, once the driver is loaded again. The backend must offer as many (in dom0: module parameter max_queues of xen-netback).",
		Cost:    "A restart, or the interface away for a moment.",
	}
)

// limitRules are asked in this order, which is also that of the telling.
var limitRules = []limitRule{
	{
		id: event.LimitRing, holds: ringHolds, evidence: ringEvidence,
		meaning: "The backend is the limit: it answers slowly, so the transmit ring or the send buffers of a few senders are full, and what is to be sent waits for dom0.",
		advice: []event.Advice{
			otherDevice,
			{
				Command: "xl sched-credit2 -d Domain-0 -w 1024",
				Effect:  "In dom0: gives it four times the default weight, so that it is run when there is something on the ring. Lifting a cap on dom0 (xl sched-credit2 -d Domain-0 -c 0) does more, if there is one.",
				Cost:    "The guests get what is left, when the machine is full.",
			},
			{
				Command: "xl vcpu-pin Domain-0 all 0-1",
				Effect:  "In dom0: keeps its processors to physical ones of their own, best with the guests kept off these; here the first two.",
				Cost:    "These processors are lost to the guests.",
			},
			fewerPackets,
			segmentation,
			moreQueues,
		},
	},
	{
		id: event.LimitOneQueue, holds: oneQueueHolds, evidence: oneQueueEvidence,
		meaning: "One processor is the limit: it has the interface's interrupts and no time left, while the others do.",
		advice: []event.Advice{
			moreQueues,
			{
				Command: "echo {processors} > /sys/class/net/{ifname}/queues/rx-0/rps_cpus",
				Effect:  "Spreads the handling of received packets over the processors by their flow (RPS), with one queue too.",
				Cost:    "An interrupt between processors for each batch.",
			},
			{
				Command: "systemctl enable --now irqbalance",
				Effect:  "Spreads the interrupts of several queues over the processors, and goes on doing so.",
			},
			otherDevice,
		},
	},
	{
		id: event.LimitCopies, holds: copiesHold, evidence: copiesEvidence,
		meaning: "Copies are a limit: the frontend copies packets before it puts them on the ring.",
		advice: []event.Advice{
			{
				Command: "cat /sys/module/xen_netfront/parameters/trusted",
				Effect:  "Shows whether the frontend distrusts its backend (N, or the key trusted of the interface in the xenstore is 0): then it copies every packet. xen_netfront.trusted=1 on the kernel's command line ends that.",
				Cost:    "Where the backend is not to be trusted it can read what lies beside a packet in memory.",
			},
			{
				Command: "sysctl -w net.core.high_order_alloc_disable=1",
				Effect:  "Where packets are copied for having too many slots: fragments are single pages then, and fewer are needed.",
				Cost:    "Bulk senders allocate more often and use a little more CPU.",
			},
		},
	},
	{
		id: event.LimitSteal, holds: stealHolds, evidence: stealEvidence,
		meaning: "The hypervisor is the limit: the guest's processors were ready to run while it ran others.",
		advice: []event.Advice{
			{
				Effect: "Move the guest to a machine with less on it, or to a type of instance that has processors of its own (not one of the burstable types).",
				Cost:   "Money, or a migration.",
			},
			{
				Command: "xl sched-credit2",
				Effect:  "In dom0: shows weights and caps; raise the guest's weight (-w), or lift its cap (-c 0).",
				Cost:    "Others get less.",
			},
		},
	},
	{
		id: event.LimitAcceptQueue, holds: acceptQueueHolds, evidence: acceptQueueEvidence,
		meaning: "An application is the limit: it accepts connections more slowly than they come, its accept queue is full, and connections are thrown away.",
		advice: []event.Advice{
			{
				Command: "ss -ltnp 'sport = :{port}'",
				Effect:  "Shows the listener: Recv-Q is its queue now, Send-Q its limit, and whose it is. Let it accept faster: more threads that accept, or several listeners with SO_REUSEPORT.",
				Cost:    "A change to the application or its configuration.",
			},
			{
				Command: "sysctl -w net.core.somaxconn=4096",
				Effect:  "Lets the queue be longer, once the application listens again and asks for more (its backlog): bursts wait rather than be lost.",
				Cost:    "Connections wait longer when the application stays slow.",
			},
		},
	},
}
