package output

import (
	"fmt"

	"xentrace/internal/event"
)

// etherTypes are names of what is not IP, from the kernel's include/uapi/linux/if_ether.h.
var etherTypes = map[uint16]string{
	0x0806: "ARP", 0x8035: "RARP", 0x8100: "VLAN", 0x88a8: "QinQ", 0x9100: "QinQ", 0x8847: "MPLS", 0x8848: "MPLS multicast",
	0x8863: "PPPoE discovery", 0x8864: "PPPoE", 0x8809: "LACP", 0x888e: "802.1X", 0x88cc: "LLDP", 0x88e5: "MACsec", 0x88f7: "PTP",
	0x88a2: "AoE", 0x8906: "FCoE", 0x8915: "RoCE", 0x9000: "loopback test", 0x4305: "batman-adv",
}

// firstEtherType: smaller numbers are the length of an 802.3 frame with an LLC header, such as of
// the spanning tree.
const firstEtherType = 0x600

// Frame names a packet without a flow: by its EtherType, which the record has behind VLAN tags.
func Frame(p *event.Packet) string {
	name, known := etherTypes[p.EtherType]
	switch {
	case p.EtherType == 0:
		return "not IP"
	case known:
		return name
	case p.EtherType == 0x0800, p.EtherType == 0x86dd:
		return "IP, header incomplete"
	case p.EtherType < firstEtherType:
		return "LLC"
	}
	return fmt.Sprintf("EtherType 0x%04x", p.EtherType)
}
