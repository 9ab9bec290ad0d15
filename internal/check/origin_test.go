package check

import (
	"strings"
	"testing"
)

// Each way to turn something off, and lines that only look like one.
func TestWhatALineSets(t *testing.T) {
	for line, want := range map[string]string{
		"ethtool -K eth0 sg off":                                              "sg eth0",
		"/sbin/ethtool -K $IFACE tso off gso off || true":                     "tso , gso ",
		`ETHTOOL_OPTS="-K eth1 tx-scatter-gather off"`:                        "sg eth1",
		`ETHTOOL_OPTIONS_tso="--offload iface tso off"`:                       "tso iface",
		"post-up ethtool --features eth0 tso off":                             "tso eth0",
		`SUBSYSTEM=="net", ACTION=="add", RUN+="/sbin/ethtool -K %k gso off"`: "gso ",
		"ExecStart=/usr/sbin/ethtool -K ens3 sg off tso on":                   "sg ens3",
		"- ethtool -K eth0 tso off":                                           "tso eth0",
		"- [ethtool, -K, eth0, tso, off]":                                     "tso eth0",
		"offload-tso off":                                                     "tso ",
		"feature-sg=false":                                                    "sg ",
		"ethtool.feature-tso=off":                                             "tso ",
		"tcp-segmentation-offload: false":                                     "tso ",
		"generic-segmentation-offload: no":                                    "gso ",
		"TCP6SegmentationOffload=no":                                          "tso ",
		"GenericSegmentationOffload = false":                                  "gso ",
		"mtu 9001":                                                            "mtu  9001",
		"mtu: 9001":                                                           "mtu  9001",
		"MTUBytes=9001":                                                       "mtu  9001",
		`MTU="9001"`:                                                          "mtu  9001",
		`ATTR{mtu}="9001"`:                                                    "mtu  9001",
		"ip link set dev eth0 mtu 65535":                                      "mtu eth0 65535",
		"net.core.high_order_alloc_disable = 0":                               HighOrder + " ",
		"-net/core/high_order_alloc_disable=1":                                HighOrder + "  1",
		"sysctl -w net.core.high_order_alloc_disable=1":                       HighOrder + "  1",
		"net.core.high_order_alloc_disable_more = 1":                          "",
		"ethtool -K eth0 sg on tso on":                                        "",
		"ethtool -k eth0 | grep off":                                          "",
		"offload-tso on":                                                      "",
		"TransmitChecksumOffload=no":                                          "",
		"commute 1500":                                                        "",
		"sg off":                                                              "sg ",
	} {
		var got []string
		for _, o := range originsOf(line) {
			part := o.Setting + " " + o.Interface
			if o.Value != 0 {
				part += " " + text(o.Value)
			}
			got = append(got, part)
		}
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestWhereASettingComesFrom(t *testing.T) {
	g := newGuest()
	g.turnOff("sg", "tso")
	g.write(map[string]string{
		"etc/rc.local": "#!/bin/sh\n# ethtool -K eth0 sg off\nethtool -K eth0 sg off\nethtool -K eth1 sg off\nexit 0",
		"etc/NetworkManager/system-connections/lan.nmconnection": "[connection]\nid=lan\n[ethtool]\nfeature-tso=false",
		"etc/systemd/network/10-net.link":                        "[Link]\nTCP6SegmentationOffload=no",
		"etc/udev/rules.d/70-net.rules":                          "ACTION==\"add\", RUN+=\"/sbin/ethtool -K %k sg off\"",
		"home/user/notes":                                        "ethtool -K eth0 sg off",
	})
	findings := Judge(g.read(t))
	for id, want := range map[string]string{
		string(ScatterGather): "Set at boot by /etc/rc.local:3, /etc/udev/rules.d/70-net.rules:1.",
		string(Offload):       "Set at boot by /etc/systemd/network/10-net.link:2, /etc/NetworkManager/system-connections/lan.nmconnection:4.",
		string(MTU):           "",
	} {
		for _, f := range findings {
			if string(f.ID) == id && (want == "" && strings.Contains(f.Message, "Set at boot") || !strings.Contains(f.Message, want)) {
				t.Errorf("%s: %q, want %q in it", id, f.Message, want)
			}
		}
	}
}

// The MTU is set by the line that has the present one.
func TestWhereTheMTUComesFrom(t *testing.T) {
	g := newGuest()
	g.interfaces[0].MTU = 65535
	g.write(map[string]string{"etc/network/interfaces": "iface eth0 inet dhcp\n  mtu 9001\n  mtu 65535", "etc/netplan/a.yaml": "      mtu: 1500"})
	f := find(Judge(g.read(t)), MTU)[0]
	if !strings.HasSuffix(f.Message, " Set at boot by /etc/network/interfaces:3.") {
		t.Errorf("%q", f.Message)
	}
}

// Files are many and large only by intent.
func TestOriginsAreBounded(t *testing.T) {
	g := newGuest()
	for n := range maxOriginFiles + 10 {
		g.write(map[string]string{"etc/cron.d/" + strings.Repeat("x", n%200) + text(n): "* * * * * root ethtool -K eth0 sg off"})
	}
	g.write(map[string]string{"etc/rc.local": "ethtool -K eth0 sg off\n" + strings.Repeat("#", maxOriginBytes)})
	m := g.read(t)
	if len(m.Origins) != maxOriginFiles {
		t.Errorf("%d lines of %d files", len(m.Origins), maxOriginFiles)
	}
	g.turnOff("sg")
	if f := find(Judge(g.read(t)), ScatterGather)[0]; !strings.Contains(f.Message, " and 1995 more.") {
		t.Errorf("%q", f.Message)
	}
}
