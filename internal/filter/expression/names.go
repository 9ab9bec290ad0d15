package expression

// EtherTypes and protocol numbers.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherRARP = 0x8035
	etherIPv6 = 0x86dd

	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44
	protoESP      = 50
	protoAH       = 51
	protoICMP6    = 58
	protoPIM      = 103
	protoVRRP     = 112
	protoSCTP     = 132
)

// protocols are the words that are conditions by themselves, and qualify others. ether has
// no condition of its own.
var protocols = map[string]protocol{
	"ether": {}, "link": {},
	"ip": {etherType: etherIPv4}, "ip6": {etherType: etherIPv6}, "arp": {etherType: etherARP}, "rarp": {etherType: etherRARP},
	"tcp": {number: protoTCP, over4: true, over6: true}, "udp": {number: protoUDP, over4: true, over6: true},
	"sctp": {number: protoSCTP, over4: true, over6: true}, "ah": {number: protoAH, over4: true, over6: true},
	"esp": {number: protoESP, over4: true, over6: true}, "pim": {number: protoPIM, over4: true, over6: true},
	"icmp": {number: protoICMP, over4: true}, "igmp": {number: protoIGMP, over4: true}, "vrrp": {number: protoVRRP, over4: true},
	"icmp6": {number: protoICMP6, over6: true},
}

type protocol struct {
	etherType uint32 // of a network protocol
	number    uint32 // of one above IP; 0: none
	over4     bool
	over6     bool
}

// constants are the names of offsets and values in relations.
var constants = map[string]uint32{
	"tcpflags": 13, "icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1,
	"tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10, "tcp-urg": 0x20, "tcp-ece": 0x40, "tcp-cwr": 0x80,
	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8, "icmp-routeradvert": 9,
	"icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12, "icmp-tstamp": 13, "icmp-tstampreply": 14,
	"icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6-destinationrunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4,
	"icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130, "icmp6-multicastlistenerreportv1": 131,
	"icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133, "icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135,
	"icmp6-neighboradvert": 136, "icmp6-redirect": 137,
}

// refused are words of pcap filters that are not accepted, and what to do instead.
var refused = map[string]string{
	"gateway": "not supported, names are not looked up; write ether host MAC and not host ADDRESS",
	"inbound": "not supported; every packet here is outbound", "outbound": "not needed; every packet here is outbound",
	"ifname": "not supported; choose interfaces with -i", "on": "not supported; choose interfaces with -i", "ifindex": "not supported; choose interfaces with -i",
	"protochain": "not supported; write proto NUMBER",
	"byte":       "not supported; write ether[OFFSET] = VALUE", "ipv6": "unknown; write ip6", "icmpv6": "unknown; write icmp6", "ip4": "unknown; write ip", "ipv4": "unknown; write ip",
	"igrp": "not supported; write ip proto 9", "carp": "not supported; write vrrp, which has the same number",
	"mpls": "not supported; write ether proto 0x8847", "pppoed": "not supported; write ether proto 0x8863", "pppoes": "not supported; write ether proto 0x8864",
	"geneve": "not supported; write udp port 6081", "vxlan": "not supported; write udp port 4789",
	"decnet": "not supported; write ether proto 0x6003", "lat": "not supported; write ether proto 0x6004", "sca": "not supported; write ether proto 0x6007",
	"moprc": "not supported; write ether proto 0x6002", "mopdl": "not supported; write ether proto 0x6001", "aarp": "not supported; only Ethernet II is", "atalk": "not supported; only Ethernet II is",
	"iso": "not supported; only Ethernet II is", "stp": "not supported; only Ethernet II is", "ipx": "not supported; only Ethernet II is", "netbeui": "not supported; only Ethernet II is",
	"llc": "not supported; only Ethernet II is", "wlan": "not supported; the link layer is Ethernet", "fddi": "not supported; the link layer is Ethernet", "tr": "not supported; the link layer is Ethernet",
}
