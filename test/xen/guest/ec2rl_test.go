//go:build xenlab

package guest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
	"xentrace/test/xen/situation"
)

// modulesLogic is what the two modules of ec2rl 1.1.7 do, in our own words: a gate for
// both, then scatter-gather and the MTU of each interface, then the log. ifconfig of
// net-tools 2 does not write the MTU as the module looks for it, and nor does ip.
const modulesLogic = `
first=
for i in /sys/class/net/*; do
	case $(readlink "$i") in *virtual*) ;; *) [ -n "$first" ] || first=$i ;; esac
done
driver=$(basename "$(readlink -f "$first/device/driver/module")")
case $(cat /sys/devices/virtual/dmi/id/board_asset_tag 2>/dev/null) in i-*) driver=nitro ;; esac
case $driver in xen_netfront | netfront) ;; *) echo "xennetsgmtu eth0 SUCCESS; xennetrocket SUCCESS"; exit ;; esac
if ethtool -k eth0 | grep -q '^scatter-gather: on'; then sgmtu=SUCCESS
elif ip link show eth0 | grep -q 'MTU:9001'; then sgmtu=SUCCESS
else sgmtu=WARN; fi
if dmesg | grep -q 'skb rides the rocket'; then rocket=FAILURE; else rocket=SUCCESS; fi
echo "xennetsgmtu eth0 $sgmtu; xennetrocket $rocket"
`

// A setting is a situation to be made.
type setting struct {
	what  string
	words []string // sg off, mtu 9001, as ethtool and ip take them, in this order
	log   func(t *testing.T)
}

// settings follow one another: what the log has stays there until it is said to go.
var settings = []setting{
	{"as it comes", nil, nil},
	{"", []string{"mtu 9001"}, nil},
	{"", []string{"sg off"}, nil},
	{"scatter-gather turned off at an MTU of 9001, which ends that MTU", []string{"mtu 9001", "sg off"}, nil},
	{"an old message in the log", nil, oldMessage},
	{"an old message, cleared with dmesg --clear", nil, clearLog},
	{"dynamic debug on: the driver writes the message", nil, dynamicDebug("+p")},
	{"dynamic debug on", []string{"sg off"}, nil},
	{"the driver's messages, overwritten since", nil, overwriteLog},
}

// What the modules of ec2rl say in each situation, what check says that they say and
// whether it is right, and what packets show.
func TestEC2RLSituations(t *testing.T) {
	t.Cleanup(func() { apply(t, nil) })
	heads, err := rocket.Hold(t.Context(), 8000, 300)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = heads.Close() }()
	for n := range settings {
		t.Run(fmt.Sprintf("%d %s", n, settings[n].what), func(t *testing.T) { settings[n].try(t) })
	}
}

func (a *setting) try(t *testing.T) {
	apply(t, a.words)
	if a.log != nil {
		a.log(t)
	}
	s := situation.Situation{Release: env(t, "XENTRACE_LAB_KERNEL"), Driver: env(t, "XENTRACE_LAB_DRIVER"), VCPUs: atoi(t, env(t, "XENTRACE_LAB_VCPUS")), What: a.what}
	s.ScatterGather = strings.Contains(ethtool(t, "-k", ifname), "scatter-gather: on")
	s.OverLimit, s.Small = sendOverLimit(t), sendSmall(t)
	s.MTU = atoi(t, readFile(t, filepath.Join("/sys/class/net", ifname, "mtu")))
	s.Messages = messages(t)
	c := check(t, 0, "--ec2rl")
	s.SGMTU, s.Rocket = c.answer(t, "xennetsgmtu "+ifname), c.answer(t, "xennetrocket")
	logic := shell(t, modulesLogic)
	s.Ours = c.notOK("linearize", "scatter_gather", "mtu", "kernel_log")
	s.Defect = s.OverLimit
	if !s.ScatterGather {
		apply(t, nil)
		s.Defect = sendOverLimit(t)
	}
	if err := s.Write(os.Stdout); err != nil {
		t.Fatal(err)
	}
	checkSituation(t, &s, &c, logic)
}

// checkSituation compares the three answers.
func checkSituation(t *testing.T, s *situation.Situation, c *checked, logic string) {
	t.Helper()
	if want := fmt.Sprintf("xennetsgmtu %s %s; xennetrocket %s", ifname, s.SGMTU.Verdict, s.Rocket.Verdict); logic != want {
		t.Errorf("by the modules' logic %q, by check %q", logic, want)
	}
	if s.SGMTU.Right != s.SGMTUIsRight() || s.Rocket.Right != s.RocketIsRight() {
		t.Errorf("check says of xennetsgmtu's %s right: %v, of xennetrocket's %s right: %v; dropped were %+v",
			s.SGMTU.Verdict, s.SGMTU.Right, s.Rocket.Verdict, s.Rocket.Right, *s)
	}
	if drops := s.Driver == "prefix"; s.Defective() != drops || drops && s.Defect.Dropped != s.Defect.Sent {
		t.Errorf("%d of %d over the limit dropped by the driver %s", s.Defect.Dropped, s.Defect.Sent, s.Driver)
	}
	if got := c.findings["linearize"].Status == "FAIL"; got != s.Defective() {
		t.Errorf("check's linearize is %s, dropped were %+v", c.findings["linearize"].Status, s.Defect)
	}
	if got := c.findings["scatter_gather"].Status == "FAIL"; got != (s.Small.Dropped > 0) {
		t.Errorf("check's scatter_gather is %s, dropped were %+v", c.findings["scatter_gather"].Status, s.Small)
	}
	if s.ScatterGather && s.Small.Dropped != 0 || !s.ScatterGather && (s.OverLimit.Dropped != 0 || s.MTU != 1500) {
		t.Errorf("scatter-gather %v, MTU %d: dropped %+v over the limit, %+v small", s.ScatterGather, s.MTU, s.OverLimit, s.Small)
	}
}

// apply sets the interface to what it comes with, and then as the words say.
func apply(t *testing.T, words []string) {
	t.Helper()
	command(t, "ethtool", "-K", ifname, "sg", "on", "tso", "on", "gso", "on")
	for _, change := range append([]string{"mtu 1500"}, words...) {
		name, value, _ := strings.Cut(change, " ")
		if name == "mtu" {
			command(t, "ip", "link", "set", ifname, "mtu", value)
		} else {
			command(t, "ethtool", "-K", ifname, name, value)
		}
	}
}

func (c *checked) answer(t *testing.T, module string) situation.Answer {
	t.Helper()
	f, there := c.findings[module]
	if !there || f.Verdict == nil || f.Right == nil {
		t.Fatalf("%s: %+v, want a verdict and whether it is right", module, f)
	}
	return situation.Answer{Verdict: *f.Verdict, Right: *f.Right}
}

// notOK lists those of the findings that are not OK.
func (c *checked) notOK(ids ...string) string {
	var all []string
	for _, id := range ids {
		if status := c.findings[id].Status; status != "OK" {
			all = append(all, status+" "+id)
		}
	}
	return strings.Join(all, ", ")
}

// sendOverLimit sends datagrams that have more slots than the driver's limit where
// scatter-gather is on.
func sendOverLimit(t *testing.T) situation.Traffic {
	t.Helper()
	const n, port = 20, 7008
	before := counter(t, "tx_dropped")
	sender, err := rocket.NewUDP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), port), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sender.Close() }()
	for range n {
		if _, err := sender.Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return situation.Traffic{Sent: n, Dropped: quietCounter(t) - before}
}

// sendSmall sends datagrams that fit a page, while many others are held unread.
func sendSmall(t *testing.T) situation.Traffic {
	t.Helper()
	const n, port = 480, 7007
	before := counter(t, "tx_dropped")
	sendSizes(t, netip.AddrPortFrom(peerAddr(t, "ipv4"), port), n)
	return situation.Traffic{Sent: n, Dropped: quietCounter(t) - before}
}

// quietCounter waits until nothing is being sent any more and returns tx_dropped.
func quietCounter(t *testing.T) uint64 {
	t.Helper()
	for began, same := time.Now(), 0; same < 3; {
		packets, dropped := counter(t, "tx_packets"), counter(t, "tx_dropped")
		time.Sleep(100 * time.Millisecond)
		if same++; packets != counter(t, "tx_packets") || dropped != counter(t, "tx_dropped") {
			same = 0
		}
		if time.Since(began) > time.Minute {
			t.Fatal("the interface keeps sending")
		}
	}
	return counter(t, "tx_dropped")
}

// messages is how many of the driver's messages dmesg prints.
func messages(t *testing.T) int {
	t.Helper()
	return atoi(t, shell(t, "dmesg | grep -c 'skb rides the rocket' || true"))
}

// oldMessage writes what a driver before 2014 wrote for each packet it dropped.
func oldMessage(t *testing.T) {
	t.Helper()
	writeLog(t, "<7>xennet: skb rides the rocket: 21 slots\n", func(n int) bool { return n == 1 })
	if n := messages(t); n == 0 {
		t.Fatal("the message is not in the log")
	}
}

func clearLog(t *testing.T) {
	t.Helper()
	command(t, "dmesg", "-c")
	if n := messages(t); n != 0 {
		t.Fatalf("%d messages in a cleared log", n)
	}
}

// dynamicDebug has the driver write its debug messages, or not, and sends what it
// writes one for.
func dynamicDebug(flags string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		const control = "/sys/kernel/debug/dynamic_debug/control"
		if err := os.WriteFile(control, []byte("module xen_netfront "+flags), 0); err != nil {
			t.Fatal(err)
		}
		sendOverLimit(t)
		if n := messages(t); n == 0 {
			t.Error("the driver wrote no message")
		}
	}
}

// overwriteLog writes until the log no longer has the driver's messages.
func overwriteLog(t *testing.T) {
	t.Helper()
	if n := messages(t); n == 0 {
		t.Error("no message to be overwritten")
	}
	if err := os.WriteFile("/sys/kernel/debug/dynamic_debug/control", []byte("module xen_netfront -p"), 0); err != nil {
		t.Fatal(err)
	}
	// Without a limit of lines a second; the kernel wants the end of the line as well.
	if err := os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0); err != nil {
		t.Fatal(err)
	}
	line := "<7>lab: " + strings.Repeat("nothing of note ", 50) + "\n"
	writeLog(t, line, func(n int) bool { return n == 20_000 || n%200 == 0 && messages(t) == 0 })
	if n := messages(t); n != 0 {
		t.Fatalf("%d messages are still in the log", n)
	}
}

// writeLog writes lines to the kernel's log until it is enough.
func writeLog(t *testing.T, line string, enough func(n int) bool) {
	t.Helper()
	log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	for n := 1; ; n++ {
		if _, err := log.WriteString(line); err != nil {
			t.Fatal(err)
		}
		if enough(n) {
			return
		}
	}
}
