package verdict

import (
	"strings"

	"xentrace/internal/event"
)

// unexplained is the rule of drops outside the driver whose reason the kernel does
// not tell, or that have no rule of their own.
var unexplained = Rule{
	Meaning: "The kernel dropped the packet before the driver was handed it, and does not say why: the function that dropped it does.",
	Advice: []event.Advice{
		{
			Command: "xentrace watch -i {ifname} --drops all -v",
			Effect:  "Shows the functions that led to each drop.",
		},
		{
			Command: "tc -s qdisc show dev {ifname}",
			Effect:  "Shows in \"dropped\" what the interface's queue dropped, the commonest place.",
		},
	},
}

var queueFull = Rule{
	Meaning: "The queueing discipline of the interface dropped the packet: its queue was full, or it limits the rate.",
	Advice: []event.Advice{
		{
			Command: "tc -s qdisc show dev {ifname}",
			Effect:  "Shows the discipline, its limit, and what it dropped and has queued.",
		},
		{
			Command: "tc -s class show dev {ifname}",
			Effect:  "Shows the same for each class, if the discipline has classes.",
		},
		{
			Effect: "A queue that is full now and then is what slows TCP down to what the interface can send; it loses other traffic. A longer queue loses less and delays more.",
		},
	},
}

var neighbour = Rule{
	Meaning: "The link-layer address of the next hop is not known: it did not answer, or too many packets wait for its answer.",
	Advice: []event.Advice{{
		Command: "ip neigh show dev {ifname}",
		Effect:  "Shows FAILED or INCOMPLETE for a next hop that does not answer.",
	}},
}

var noMemory = Rule{
	Meaning: "There was no memory for the packet, or for a copy of it that had to be made.",
	Advice:  []event.Advice{memoryReserve},
}

var noSegments = Rule{
	Meaning: "A packet that was to be cut into segments could not be.",
	Advice: []event.Advice{{
		Command: "ethtool -k {ifname}",
		Effect:  "Shows what the interface leaves to the kernel. It takes memory, or the packet is malformed.",
	}},
}

// reasonRules holds what the kernel's reasons mean for a packet on its way out. The
// names are those of enum skb_drop_reason and the enums of its subsystems.
var reasonRules = map[string]Rule{
	"QDISC_DROP":       queueFull,
	"QDISC_BURST_DROP": queueFull,
	"NETFILTER_DROP": {
		Meaning: "A rule of the packet filter dropped the packet.",
		Advice: []event.Advice{
			{
				Command: "nft list ruleset",
				Effect:  "Shows the rules; those with a counter show how many packets they met.",
			},
			{
				Command: "iptables-save -c; ip6tables-save -c",
				Effect:  "Shows rules that were made with the older tools, with their counts.",
			},
		},
	},
	"TC_EGRESS": {
		Meaning: "A filter of traffic control on the way out dropped the packet.",
		Advice: []event.Advice{{
			Command: "tc -s filter show dev {ifname} egress",
			Effect:  "Shows the filters and their actions with counts; BPF programs are among them.",
		}},
	},
	"BPF_CGROUP_EGRESS": {
		Meaning: "A BPF program of the sender's control group dropped the packet.",
		Advice: []event.Advice{{
			Command: "bpftool cgroup tree",
			Effect:  "Shows the programs of each control group; systemd's IPAddressDeny= makes such a one.",
		}},
	},
	"NEIGH_FAILED":      neighbour,
	"NEIGH_QUEUEFULL":   neighbour,
	"NEIGH_DEAD":        neighbour,
	"NEIGH_CREATEFAIL":  neighbour,
	"NEIGH_HH_FILLFAIL": neighbour,
	"IP_OUTNOROUTES": {
		Meaning: "There is no route to the destination any more.",
		Advice: []event.Advice{{
			Command: "ip route show table all dev {ifname}",
			Effect:  "Shows the routes over the interface.",
		}},
	},
	"XFRM_POLICY": {
		Meaning: "An IPsec policy does not let the packet pass.",
		Advice: []event.Advice{{
			Command: "ip -s xfrm policy",
			Effect:  "Shows the policies with what they met.",
		}},
	},
	"PKT_TOO_BIG": {
		Meaning: "The packet is longer than the MTU of the way out and may not be cut into fragments.",
		Advice: []event.Advice{{
			Command: "ip link show dev {ifname}",
			Effect:  "Shows the MTU. The sender is told; if it goes on sending such packets, what tells it (ICMP) is filtered on the way.",
		}},
	},
	"DEV_READY": {
		Meaning: "The interface is down, or not ready to send.",
		Advice: []event.Advice{{
			Command: "ip link show dev {ifname}",
			Effect:  "Shows the state of the interface.",
		}},
	},
	"QUEUE_PURGE": {
		Meaning: "The packet waited in a queue that was emptied, as when an interface goes down or a socket is closed.",
		Advice: []event.Advice{{
			Command: "ip link show dev {ifname}",
			Effect:  "Shows the state of the interface.",
		}},
	},
	"RECURSION_LIMIT": {
		Meaning: "Interfaces that send through each other were nested too deep, or in a circle.",
		Advice: []event.Advice{{
			Command: "ip -d link show",
			Effect:  "Shows which interface lies upon which, and what tunnels lead over.",
		}},
	},
	"IP_INHDR": {
		Meaning: "The header of a packet that was to be forwarded is wrong, or its time to live is over.",
		Advice: []event.Advice{{
			Command: "traceroute -n DESTINATION",
			Effect:  "Shows a circle of routers, if there is one.",
		}},
	},
	"NOMEM":           noMemory,
	"SKB_UCOPY_FAULT": noMemory,
	"SKB_GSO_SEG":     noSegments,
	"SKB_BAD_GSO":     noSegments,
	"NOT_SPECIFIED":   unexplained,
	"other": {
		Meaning: "Packets were dropped for reasons of parts of the kernel that are not counted apart: each one's record has its own.",
		Advice:  unexplained.Advice,
	},
}

// OfReason returns the rule for a packet that was dropped outside the driver for
// this reason of the kernel's; the empty reason is that of kernels that tell none.
func OfReason(reason string) Rule {
	rule, known := reasonRules[reason]
	switch {
	case known:
	case strings.HasPrefix(reason, "QDISC_DROP_"):
		rule = queueFull
	case reason == "":
		rule = unexplained
		reason = "elsewhere"
	default:
		rule = unexplained
		rule.Meaning = "The kernel dropped the packet before the driver was handed it, for the reason that its own source calls by this name."
	}
	rule.Name = reason
	return rule
}
