package output

import (
	"testing"

	"xentrace/internal/event"
)

func TestFramesHaveNames(t *testing.T) {
	for etherType, want := range map[uint16]string{
		0: "not IP", 0x0806: "ARP", 0x88cc: "LLDP", 0x8809: "LACP", 0x8847: "MPLS", 0x8864: "PPPoE", 0x9100: "QinQ", 0x0026: "LLC", 0x05ff: "LLC",
		0x0800: "IP, header incomplete", 0x86dd: "IP, header incomplete", 0x1234: "EtherType 0x1234", 0x0600: "EtherType 0x0600",
	} {
		if got := Frame(&event.Packet{EtherType: etherType}); got != want {
			t.Errorf("0x%04x: %q, want %q", etherType, got, want)
		}
	}
	if got := protocolName(4); got != "ipip" {
		t.Errorf("protocol 4 is %q", got)
	}
}
