package check

import (
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
)

// What ec2rl says, what is true, and how we put it, side by side.
func TestEC2RLSideBySide(t *testing.T) {
	unfixed := func(g *guest) { g.live = drops }
	logged := func(g *guest) {
		g.log = append(g.log, "1,9,3,-;xennet: skb rides the rocket: 19 slots\n")
	}
	sgOff := func(g *guest) { g.turnOff("sg") }
	oldSlab := func(g *guest) { g.without("sys/kernel/slab/skbuff_small_head") }
	jumbo := func(g *guest) { g.interfaces[0].MTU = 9001 }
	for _, test := range []struct {
		name    string
		changes []func(*guest)
		sgmtu   string // of eth0: the verdict and whether it is right
		rocket  string
		says    string // part of what is said of eth0
		ours    string // what our check finds not to be OK
	}{
		{"6.12, all as it comes", nil, "SUCCESS right", "SUCCESS right", "The driver linearizes", ""},
		{"6.12, MTU 9001", []func(*guest){jumbo}, "SUCCESS right", "SUCCESS right", "", ""},
		{"6.12, scatter-gather off", []func(*guest){sgOff}, "WARN right", "SUCCESS right", "cannot be set while scatter-gather is off", "FAIL scatter_gather"},
		{"5.10, scatter-gather off", []func(*guest){oldSlab, sgOff}, "WARN wrong", "SUCCESS right", "only forwarded ones can", "WARN scatter_gather"},
		{"6.12, the message with dynamic debug on", []func(*guest){logged}, "SUCCESS right", "FAILURE wrong", "", ""},
		{"the driver before the fix, nothing in the log", []func(*guest){unfixed}, "SUCCESS wrong", "SUCCESS wrong", "which scatter-gather allows", "FAIL linearize"},
		{"the driver before the fix, the message", []func(*guest){unfixed, logged}, "SUCCESS wrong", "FAILURE right", "", "FAIL linearize, FAIL kernel_log"},
		{"the driver before the fix, the message cleared", []func(*guest){unfixed, logged, func(g *guest) { g.cleared = len(g.log) }}, "SUCCESS wrong", "SUCCESS wrong", "", "FAIL linearize, FAIL kernel_log"},
		{"the driver before the fix, MTU 9001", []func(*guest){unfixed, jumbo}, "SUCCESS wrong", "SUCCESS wrong", "", "FAIL linearize, WARN mtu"},
		{"the driver before the fix, scatter-gather off on 6.12", []func(*guest){unfixed, sgOff}, "WARN right", "SUCCESS wrong", "", "FAIL linearize, FAIL scatter_gather"},
		{"the driver before the fix, scatter-gather off on 5.10", []func(*guest){unfixed, oldSlab, sgOff}, "WARN wrong", "SUCCESS wrong", "", "FAIL linearize, WARN scatter_gather"},
		{"a log that was overwritten", []func(*guest){unfixed, func(g *guest) { g.log = []string{"6,5000,9,-;eth0: link up\n"} }}, "SUCCESS wrong", "SUCCESS wrong", "", "FAIL linearize"},
		{"an ENA that comes first by name", []func(*guest){unfixed, func(g *guest) {
			g.link("sys/class/net/ens5", "../../devices/pci0000:00/0000:00:05.0/net/ens5")
			g.link("sys/devices/pci0000:00/0000:00:05.0/net/ens5/device/driver/module", "../../../../module/ena")
			g.link("sys/class/net/eth9", "../../devices/vif-0/net/eth9")
			g.without("sys/class/net/eth0")
		}}, "SUCCESS wrong", "SUCCESS wrong", "It looks at the driver of ens5 only, which is ena", "FAIL linearize"},
		{"a bridge of docker that has no scatter-gather", []func(*guest){func(g *guest) {
			docker := otherDevice("docker0", "bridge", 1500)
			docker.Features.Value.ScatterGather.Active = false
			g.others = []Interface{docker}
		}}, "SUCCESS right", "SUCCESS right", "", ""},
		{"an asset tag of Nitro in a Xen guest", []func(*guest){unfixed, func(g *guest) {
			g.write(map[string]string{"sys/devices/virtual/dmi/id/board_asset_tag": "i-0123456789abcdef0"})
		}}, "SUCCESS wrong", "SUCCESS wrong", "It assumes Nitro", "FAIL linearize"},
		{"a driver that is not known", []func(*guest){func(g *guest) { g.live = netfront.Answer{Evidence: "a jump table"} }},
			"SUCCESS unknown", "SUCCESS unknown", "", "UNKNOWN linearize"},
		{"not root", []func(*guest){(*guest).unprivileged, func(g *guest) { g.liveErr = nil }}, "SUCCESS right", "? unknown", "", "UNKNOWN kernel_log, UNKNOWN bounce, UNKNOWN checksum"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGuest()
			for _, change := range test.changes {
				change(g)
			}
			m := g.read(t)
			got := map[string]string{}
			for _, o := range EC2RL(m) {
				got[o.Module+o.Interface] = inWords(o)
				if o.Interface == "eth0" && !strings.Contains(o.Message, test.says) {
					t.Errorf("no %q in %q", test.says, o.Message)
				}
			}
			if got["xennetsgmtueth0"] != test.sgmtu || got["xennetrocket"] != test.rocket {
				t.Errorf("%v, want %s and %s", got, test.sgmtu, test.rocket)
			}
			if ours := notOK(Judge(m)); ours != test.ours {
				t.Errorf("our own findings: %q, want %q", ours, test.ours)
			}
			if docker, there := got["xennetsgmtudocker0"]; there && docker != "WARN wrong" {
				t.Errorf("docker0: %s, want WARN wrong", docker)
			}
		})
	}
}

func inWords(o event.Opinion) string {
	verdict := o.Verdict
	if verdict == "" {
		verdict = "?"
	}
	switch {
	case o.Right == nil:
		return verdict + " unknown"
	case *o.Right:
		return verdict + " right"
	default:
		return verdict + " wrong"
	}
}
