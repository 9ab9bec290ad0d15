package verdict

import (
	"xentrace/internal/event"
)

// Advice that several rules share.
var (
	// skb_page_frag_refill takes single pages when the switch is on, so a
	// copied fragment no longer crosses a page: at most 17 slots and the head.
	orderZeroFrags = event.Advice{
		Command: "sysctl -w net.core.high_order_alloc_disable=1",
		Effect:  "New fragments are single pages and no longer straddle two, so copied data stays within the limit. What is queued already stays as it is.",
		Cost:    "Bulk senders allocate more often and use a little more CPU.",
	}
	// A segment that was built for a larger MTU is cut anew when it is sent again. As many
	// small pieces go into a shorter one.
	smallMTU = event.Advice{
		Command: "ip link set dev {ifname} mtu 1500",
		Effect:  "Segments already queued are cut anew when they are sent again, which frees a stuck connection, unless it was sending in small pieces.",
		Cost:    "The gain of jumbo frames is lost for all traffic on the interface.",
	}
	memoryReserve = event.Advice{
		Command: "sysctl -w vm.min_free_kbytes=131072",
		Effect:  "The kernel keeps 128 MiB free for allocations that cannot wait, as the driver's cannot.",
		Cost:    "That memory is lost to everything else.",
	}
)

// causeRules holds what each drop means. The tests that the driver makes are
// those of xennet_start_xmit from 5.10 to 7.3.
var causeRules = map[event.Cause]Rule{
	event.NoQueues: {
		Meaning: "The interface has no transmit queue: setting up the connection to the backend failed or is not done.",
		Advice: []event.Advice{{
			Command: "dmesg | grep -i -e xennet -e vif -e {ifname}",
			Effect:  "Shows what failed. Detaching the interface and attaching it again in dom0 (xl network-detach, xl network-attach) sets it up anew.",
			Cost:    "Connections over the interface break while it is away.",
		}},
	},
	event.DeviceBroken: {
		Meaning: "The frontend caught its backend misbehaving and disabled the interface for good; every packet is dropped.",
		Advice: []event.Advice{{
			Command: "dmesg | grep -e 'Disabled for further use' -B 2",
			Effect:  "Shows what the backend did. Only a new device helps: detach and attach it in dom0 (xl network-detach, xl network-attach), or restart the guest.",
			Cost:    "Connections over the interface break; the fault is dom0's and may come back.",
		}},
	},
	event.TooBig: {
		Meaning: "The packet is longer than 65535 bytes, the most that a request on the ring can say.",
		Advice: []event.Advice{{
			Command: "ip link set dev {ifname} mtu 65517",
			Effect:  "A full packet with its Ethernet header and a VLAN tag is then 65535 bytes.",
		}},
	},
	event.TooManySlots: {
		Meaning: "The packet needs more slots than the limit and this driver has no code to linearize it, so the same packet is dropped again at every retransmission.",
		Advice: []event.Advice{
			{
				Effect: "Update the kernel: from Linux 3.17 on (and in stable kernels that took the change) the driver copies such a packet into one buffer and sends it.",
				Cost:   "A restart.",
			},
			orderZeroFrags,
			smallMTU,
			{
				Effect: "Turning scatter-gather off, as old advice has it, frees a stuck connection, but leave it off no longer than that takes: from Linux 6.3 on it drops small packets. Turning off TSO and GSO frees none.",
			},
		},
	},
	event.LinearizeFailed: {
		Meaning: "The packet needs more slots than the limit, and the kernel found no free memory in one piece to copy it into.",
		Advice: []event.Advice{
			orderZeroFrags,
			{
				Command: "ethtool -K {ifname} tso off gso off",
				Effect:  "Packets are then no longer than the MTU, and one buffer for them is easily found.",
				Cost:    "Bulk senders use much more CPU; packets over the limit remain and are copied.",
			},
			memoryReserve,
		},
	},
	event.BounceFailed: {
		Meaning: "The packet had to be copied before it could be shared with the backend, and there was no memory for the copy.",
		Advice:  []event.Advice{memoryReserve},
	},
	event.NoCarrier: {
		Meaning: "The interface has no carrier: its backend in dom0 is not connected.",
		Advice: []event.Advice{{
			Command: "ip link show dev {ifname}",
			Effect:  "Shows NO-CARRIER while it lasts; the other end is looked at in dom0 (xl network-list). It is normal for a moment while a guest resumes or migrates.",
		}},
	},
	event.SGOff: {
		Meaning: "The packet needs two slots or more while scatter-gather is off. From Linux 6.3 on even small packets do, when their head straddles a page.",
		Advice: []event.Advice{{
			Command: "ethtool -K {ifname} sg on tso on gso on",
			Effect:  "The driver takes packets of up to 18 slots again. Turning scatter-gather off had also set the MTU to 1500.",
			Cost:    "With a driver that does not linearize, packets of more than 18 slots are dropped instead.",
		}},
	},
	event.NeedsGSO: {
		Meaning: "The packet was to be segmented by the device, and the feature was turned off between the stack and the driver.",
		Advice: []event.Advice{{
			Command: "ethtool -k {ifname}",
			Effect:  "Shows the features. A few such drops while they are being changed are normal; TCP sends the data again.",
		}},
	},
	event.UnknownCause: {
		Meaning: "The driver dropped the packet and none of its known tests explains why.",
		Advice: []event.Advice{{
			Command: "xentrace watch -i {ifname} -o json",
			Effect:  "Records such a packet in full. With the output of xentrace version it makes a report that can be acted on.",
		}},
	},
}

// verdictRules holds what the other verdicts mean.
var verdictRules = map[event.Verdict]Rule{
	event.Linearized: {
		Meaning: "The packet needed more slots than the limit; the driver copied it into one buffer and sent it.",
		Advice: []event.Advice{{
			Command: orderZeroFrags.Command,
			Effect:  "Nothing is lost as long as memory in one piece is found for the copies. This avoids most of them: new fragments are single pages and no longer straddle two.",
			Cost:    orderZeroFrags.Cost,
		}},
	},
	event.Bounced: {
		Meaning: "The driver copied the packet before sending it: its head began less than 14 bytes before the end of a page, or the backend is not trusted.",
		Advice: []event.Advice{{
			Effect: "Nothing is lost. Where every packet is copied, the backend is marked as not trusted (the driver's parameter trusted=0, or the host says so): a choice of safety over speed.",
		}},
	},
	event.OverLimit: {
		Meaning: "This driver sent the packet; a Xen frontend would have had to copy it (Linux 3.17 and later) or drop it (3.7 to 3.16).",
		Advice: []event.Advice{{
			Effect: "Nothing is lost here. The same traffic in a Xen guest depends on the driver's copying.",
		}},
	},
	event.Rejected: {
		Meaning: "The driver put the packet on the ring and counted it as sent, and the backend answered that it did not take it: the packet is lost, and no counter of the guest says so.",
		Advice: []event.Advice{
			{
				Effect: "Compare the packets with each other: netback refuses those of more than 19 slots, those shorter than an Ethernet header in their first slot, and those whose memory it cannot map or copy. A packet over the limit comes from a driver that does not keep to it: update the guest's kernel.",
			},
			{
				Effect: "In dom0 no counter tells of it either, but the kernel's log says why once dynamic debug is on: echo 'module xen_netback +p' > /sys/kernel/debug/dynamic_debug/control is the command there.",
			},
		},
	},
}
