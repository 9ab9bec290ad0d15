//go:build xenlab

package guest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"xentrace/test/role"
	"xentrace/test/tool"
)

// setUp gives the interface at a place the lab's addresses and neighbours again.
func setUp(t *testing.T, at place) {
	t.Helper()
	in := []string{"ip"}
	if at.netns != "" {
		in = append(in, "-n", at.netns)
	}
	command(t, append(in, "link", "set", at.name, "up")...)
	for _, words := range []string{
		"address replace 10.44.0.2/24 dev",
		"address replace fd44::2/64 nodad dev",
		"neighbour replace 10.44.0.1 lladdr fe:ff:ff:ff:ff:ff nud permanent dev",
		"neighbour replace fd44::1 lladdr fe:ff:ff:ff:ff:ff nud permanent dev",
	} {
		command(t, append(append(in, strings.Fields(words)...), at.name)...)
	}
}

// rename gives the lab's interface another name.
func (l *life) rename(to string) {
	l.t.Helper()
	l.vanished = true
	command(l.t, "ip", "link", "set", l.at.name, "down")
	command(l.t, "ip", "link", "set", l.at.name, "name", to)
	l.at.name = to
	setUp(l.t, l.at)
}

// A renamed interface is the same one under another name, also in the records.
func TestLifeRenamed(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.traffic(5, 100)
			l.reported() // a record has the name that the interface has when it is read
			l.rename("xen7")
			l.run.Says("is now called xen7", 1)
			l.traffic(5, 100)
			l.reported()
			l.rename(ifname)
			l.run.Says("is now called "+ifname, 1)
			l.traffic(5, 100)
			output := l.end(0)
			noGap(t, &output)
			names := map[string]int{}
			for n := range output.Packets {
				if output.Packets[n].Verdict != "bounced" {
					names[output.Packets[n].Ifname]++
				}
			}
			if names[ifname] != 10 || names["xen7"] != 5 || len(output.Summary.Interfaces) != 1 {
				t.Errorf("records by name %v, %d interfaces: want 10 and 5, of one interface", names, len(output.Summary.Interfaces))
			}
		})
	}
}

// The interface moves to another network namespace and back. It keeps its counters, and
// is reported once for each namespace: it has its index again.
func TestLifeMovedToAnotherNamespace(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			command(t, "ip", "netns", "add", "life")
			t.Cleanup(func() { command(t, "ip", "netns", "delete", "life") })
			command(t, "ip", "-n", "life", "link", "set", "lo", "up")
			l := beginLife(t, backend)
			l.traffic(5, 100)
			for stay, netns := range []string{"life", ""} {
				l.move(netns)
				l.traffic(5, 100)
				l.found(stay + 1)
			}
			output := l.end(0)
			noGap(t, &output)
			namespaces := map[uint32]int{}
			for n := range output.Packets {
				if output.Packets[n].Verdict != "bounced" {
					namespaces[output.Packets[n].Netns]++
				}
			}
			// Packets of the first moments of a stay, before the interface was found there, are
			// counted in the entry of all others.
			stays := slices.DeleteFunc(slices.Clone(output.Summary.Interfaces), func(i tool.Interface) bool { return i.Ifname == "(others)" })
			if len(namespaces) != 2 || len(stays) != 2 {
				t.Errorf("records by namespace %v, interfaces %+v: want 10 and 5, in two namespaces; notices:\n%s", namespaces, output.Summary.Interfaces, output.Stderr)
			}
		})
	}
}

// found waits until the program found the interface in so many namespaces after its first: a
// stay that ends before it is found has no entry of its own.
func (l *life) found(stays int) {
	l.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		said := l.run.Said()
		if strings.Count(said, "interface eth0 appeared") >= stays {
			return
		}
		if time.Since(began) > time.Minute {
			l.t.Fatalf("it was not found in its namespace:\n%s", said)
		}
	}
}

func (l *life) move(netns string) {
	l.t.Helper()
	l.vanished = true
	if netns == "" {
		command(l.t, "ip", "-n", l.at.netns, "link", "set", l.at.name, "netns", "1")
	} else {
		command(l.t, "ip", "link", "set", l.at.name, "netns", netns)
	}
	l.at.netns = netns
	setUp(l.t, l.at)
}

// What is set of an interface is no event: no notice, and every packet counted.
func TestLifeSettings(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.run.Says(saysWhatDriverDoes(l.drops), 1)
			before := l.run.Said()
			t.Cleanup(func() {
				command(t, "ethtool", "-K", ifname, "sg", "on", "tso", "on", "gso", "on", "tx", "on")
				command(t, "ip", "link", "set", ifname, "mtu", "1500")
			})
			for _, change := range []string{
				"ip link set eth0 mtu 1400", "ethtool -K eth0 tso off", "ethtool -K eth0 gso off",
				"ip link set eth0 mtu 1500", "ethtool -K eth0 gso on tso on", "ip link set eth0 txqueuelen 500",
				"ip link set eth0 txqueuelen 1000", "ip link set eth0 promisc on", "ip link set eth0 promisc off",
			} {
				command(t, strings.Fields(change)...)
				l.traffic(2, 40)
			}
			time.Sleep(settle)
			if said := l.run.Said(); said != before {
				t.Errorf("notices %q, want none", strings.TrimPrefix(said, before))
			}
			output := l.end(0)
			noGap(t, &output)
		})
	}
}

// What a CPU counted before it went offline stays counted.
func TestLifeProcessorOffline(t *testing.T) {
	const online = "/sys/devices/system/cpu/cpu1/online"
	if env(t, "XENTRACE_LAB_VCPUS") == "1" {
		t.Log("one CPU: shown with --vcpus 2")
		return
	}
	set := func(value string) {
		t.Helper()
		if err := os.WriteFile(online, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.onCPU(1, 10)
			set("0")
			t.Cleanup(func() { set("1") })
			l.traffic(5, 100)
			set("1")
			l.onCPU(1, 10)
			output := l.end(0)
			noGap(t, &output)
			var second int
			for n := range output.Packets {
				if output.Packets[n].CPU == 1 && output.Packets[n].Verdict != "bounced" {
					second++
				}
			}
			if second < 20 {
				t.Errorf("%d records from the second CPU, want at least 20", second)
			}
		})
	}
}

// onCPU sends rockets from that CPU.
func (l *life) onCPU(cpu, rockets int) {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	to := netip.AddrPortFrom(peerAddr(l.t, "ipv4"), lifePort)
	sender := role.CommandOf("sender", "taskset", fmt.Sprintf("%x", 1<<cpu), self, to.String(), strconv.Itoa(rockets))
	if out, err := sender.CombinedOutput(); err != nil {
		l.t.Fatalf("%v: %v\n%s", sender, err, out)
	}
	if l.drops {
		l.dropped += uint64(rockets)
	} else {
		l.linearized += uint64(rockets)
	}
}

// playSender is the process that onCPU starts: it sends that many rockets to that address.
func playSender(args []string) error {
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	rockets, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return sendMixed(context.Background(), to, rockets, 10)
}
