//go:build xenlab

package guest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/schema"
)

// A finding is an object of type "finding" or "ec2rl" that check writes, as
// documented.
type finding struct {
	Type     string
	ID       string
	Module   string
	Status   string
	Ifname   *string
	Message  string
	Evidence map[string]any
	Advice   []struct{ Command *string }
	Verdict  *string
	Right    *bool
}

// A checked is one run of check.
type checked struct {
	findings map[string]finding // by id, or by module and interface
	status   int
	stderr   string
	took     time.Duration
}

// nobody is a user without any privilege.
const nobody = 65534

// check runs the command, as root or not, and reads what it writes.
func check(t *testing.T, uid uint32, args ...string) checked {
	t.Helper()
	cmd := exec.Command(program(t), append([]string{"check", "-o", "json"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return readCheck(t, cmd)
}

// readCheck runs a command that is check, and reads what it writes.
func readCheck(t *testing.T, cmd *exec.Cmd) checked {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	began := time.Now()
	out, err := cmd.Output()
	c := checked{findings: map[string]finding{}, status: exitCode(err), stderr: stderr.String(), took: time.Since(began)}
	schema.Check(t, out)
	worst := 0
	for line := range strings.Lines(string(out)) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		name := f.ID
		if f.Type == "ec2rl" {
			name = strings.TrimSpace(f.Module + " " + text(f.Ifname))
		}
		c.findings[name] = f
		if f.Status == "WARN" || f.Status == "FAIL" {
			worst = 1
		}
	}
	if c.status != worst || c.stderr != "" || len(c.findings) == 0 {
		t.Errorf("status %d, want %d for %s; stderr %q", c.status, worst, out, c.stderr)
	}
	return c
}

// is fails the test unless the finding has this status, and these parts in its
// message or evidence.
func (c *checked) is(t *testing.T, id, status string, parts ...string) {
	t.Helper()
	f, there := c.findings[id]
	if !there || f.Status != status {
		t.Errorf("%s: %q, want %s: %s %v", id, f.Status, status, f.Message, f.Evidence)
	}
	for _, part := range parts {
		if !strings.Contains(f.Message+fmt.Sprint(f.Evidence), part) {
			t.Errorf("%s: no %q in %s %v", id, part, f.Message, f.Evidence)
		}
	}
}

// obey carries out the first command that the finding advises.
func (c *checked) obey(t *testing.T, id string) {
	t.Helper()
	for _, a := range c.findings[id].Advice {
		if a.Command != nil {
			if out, err := exec.Command("sh", "-c", *a.Command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", *a.Command, err, out)
			}
			return
		}
	}
	t.Fatalf("%s advises no command: %+v", id, c.findings[id])
}

func ethtool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ethtool", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ethtool %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// driverStatus is what check must find the driver to be, and the word for it.
func driverStatus(t *testing.T) (status, word string) {
	switch env(t, "XENTRACE_LAB_DRIVER") {
	case "prefix", "nocheck":
		return "FAIL", "drops"
	default:
		return "OK", "linearizes"
	}
}

// What check finds of the guest as it comes: the running code and the file on
// disk agree, and nothing is changed by looking.
func TestCheck(t *testing.T) {
	features := ethtool(t, "-k", ifname)
	c := check(t, 0)
	t.Logf("took %v", c.took)
	status, word := driverStatus(t)
	c.is(t, "virtualization", "OK", "type "+guestType(t), "Guest of Xen 4.17")
	c.is(t, "driver", "OK", "eth0 is driven by xen-netfront")
	c.is(t, "linearize", status, "read_from:running kernel", "file_says:"+word, "file_is_loaded:true")
	c.is(t, "scatter_gather", "OK", "on:true")
	c.is(t, "offload", "OK", "tso:true")
	c.is(t, "mtu", "OK", "mtu:1500")
	c.is(t, "skb_frags", "OK", "max_skb_frags:17")
	c.is(t, "kernel_log", "OK", "disabled:0")
	c.is(t, "bounce", "OK", "xenstore_trusted:true", "parameter_trusted:true")
	c.is(t, "queues", "OK", "queues:"+env(t, "XENTRACE_LAB_VCPUS"))
	c.is(t, "better_device", "OK")
	if after := ethtool(t, "-k", ifname); after != features {
		t.Errorf("the features were\n%s\nand are\n%s", features, after)
	}
}

// Without root the driver is read from its file, and the answer is the same.
func TestCheckNotRoot(t *testing.T) {
	c := check(t, nobody)
	status, word := driverStatus(t)
	c.is(t, "linearize", status, "read_from:file", "file_says:"+word, "file_is_loaded:true", "needs root")
	c.is(t, "scatter_gather", "OK", "on:true")
	c.is(t, "bounce", "UNKNOWN", "needs root")
	c.is(t, "tx_dropped", c.findings["tx_dropped"].Status, fmt.Sprintf("tx_dropped:%d", counter(t, "tx_dropped")))
}

// In a container that shares the guest's network: root of a user namespace, /sys
// read-only, nothing in /dev. What that hides is UNKNOWN, the rest as without root.
func TestCheckInContainer(t *testing.T) {
	cmd := exec.Command("sh", "-c", `mount -o remount,bind,ro /sys && mount -t tmpfs none /dev && exec "$0" check -o json --ec2rl`, program(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{Size: 1}}, GidMappings: []syscall.SysProcIDMap{{Size: 1}},
	}
	c := readCheck(t, cmd)
	status, word := driverStatus(t)
	c.is(t, "linearize", status, "read_from:file", "file_says:"+word, "file_is_loaded:true", "needs root")
	c.is(t, "scatter_gather", "OK", "on:true")
	c.is(t, "mtu", "OK", "mtu:1500")
	c.is(t, "kernel_log", "UNKNOWN", "/dev/kmsg")
	c.is(t, "bounce", "UNKNOWN", "xenstore")
	if text(c.findings["xennetsgmtu "+ifname].Verdict) != "SUCCESS" || c.findings["xennetrocket"].Verdict != nil {
		t.Errorf("ec2rl: %+v, %+v; want SUCCESS, and nothing without the log", c.findings["xennetsgmtu "+ifname], c.findings["xennetrocket"])
	}
}

// Scatter-gather off is a finding, whose share is what really is dropped; the
// advice ends it.
func TestCheckScatterGatherOff(t *testing.T) {
	const held, sent, port = 8000, 480, 7007
	scatterGather(t, "off")
	t.Cleanup(func() { scatterGather(t, "on") })
	c := check(t, 0)
	want := "WARN"
	if smallHeads(t) {
		want = "FAIL"
	}
	c.is(t, "scatter_gather", want, "on:false", "requested:false")
	c.is(t, "mtu", "OK", "cannot be set")
	if out, err := exec.Command("ip", "link", "set", ifname, "mtu", "9001").CombinedOutput(); err == nil {
		t.Errorf("the MTU of 9001 can be set: %s", out)
	}

	heads, err := rocket.Hold(t.Context(), held, 300)
	if err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(t.TempDir(), "ready")
	observed := make(chan checked)
	go func() { observed <- check(t, 0, "--observe", "8s", "--ready-file", ready) }()
	for range 600 {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	dropped := counter(t, "tx_dropped")
	sendSizes(t, netip.AddrPortFrom(peerAddr(t, "ipv4"), port), sent)
	c = <-observed
	if err := heads.Close(); err != nil {
		t.Fatal(err)
	}
	dropped = counter(t, "tx_dropped") - dropped
	evidence := c.findings["scatter_gather"].Evidence
	if evidence["observed_packets"] == nil {
		t.Fatalf("nothing was observed: %s %s", c.findings["scatter_gather"].Message, c.stderr)
	}
	if evidence["observed_sg_off"] != float64(dropped) || dropped == 0 && smallHeads(t) {
		t.Errorf("%v dropped by observation, %d by the driver's counter", evidence["observed_sg_off"], dropped)
	}
	if packets, is := evidence["observed_packets"].(float64); !is || packets < sent {
		t.Errorf("%v packets observed, want at least %d", evidence["observed_packets"], sent)
	}
	t.Logf("%d of %v dropped", dropped, evidence["observed_packets"])

	if _, word := driverStatus(t); word == "linearizes" {
		c.obey(t, "scatter_gather")
		c = check(t, 0)
		c.is(t, "scatter_gather", "OK", "on:true")
	}
}

// TSO and GSO off are a workaround left behind with a driver that linearizes, and
// one to keep with a driver that does not.
func TestCheckOffload(t *testing.T) {
	ethtool(t, "-K", ifname, "tso", "off", "gso", "off")
	t.Cleanup(func() { ethtool(t, "-K", ifname, "tso", "on", "gso", "on") })
	c := check(t, 0)
	if _, word := driverStatus(t); word == "drops" {
		c.is(t, "offload", "OK", "Leave it until the kernel is updated")
		return
	}
	c.is(t, "offload", "WARN", "a workaround for a defect that this driver does not have")
	c.obey(t, "offload")
	c = check(t, 0)
	c.is(t, "offload", "OK", "tso:true", "gso:true")
}

// What ec2rl would say, by experiment: rockets are sent, and the driver's counter
// reports whether it is right.
func TestCheckEC2RL(t *testing.T) {
	const rockets, port = 10, 7008
	sender, err := rocket.NewUDP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), port), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	dropped := counter(t, "tx_dropped")
	for range rockets {
		if _, err := sender.Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(settle)
	dropped = counter(t, "tx_dropped") - dropped
	c := check(t, 0, "--ec2rl")
	for _, module := range []string{"xennetsgmtu " + ifname, "xennetrocket"} {
		opinion := c.findings[module]
		if text(opinion.Verdict) != "SUCCESS" || opinion.Right == nil || *opinion.Right != (dropped == 0) {
			t.Errorf("%s: %s, right: %v; %d of %d rockets were dropped", module, text(opinion.Verdict), opinion.Right, dropped, rockets)
		}
	}
	want := "OK"
	if counter(t, "tx_dropped") > 0 {
		want = "WARN"
	}
	c.is(t, "tx_dropped", want, fmt.Sprintf("tx_dropped:%d", counter(t, "tx_dropped")))
	t.Logf("%d of %d rockets dropped", dropped, rockets)
}
