package netns

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"xentrace/test/process"
	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// frame returns the first frame that begins with the text, and its place.
func frame(stack []string, text string) (string, int) {
	i := slices.IndexFunc(stack, func(f string) bool { return strings.HasPrefix(f, text) })
	if i < 0 {
		return "", i
	}
	return stack[i], i
}

// The call that sent a packet, kernel and program, for packets that calls send; none
// without --stack.
func TestStackOfCall(t *testing.T) {
	l := newLab(t)
	udp := l.udp(l.udpSink(farAddress.Addr()).Local(), rocket.Options{})
	tcp := l.tcp(l.tcpSink(farAddress.Addr()).Local(), rocket.Options{})
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json", "--stack")
	plain := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json")
	_, err := udp.Send(t.Context())
	must(t, err)
	_, err = tcp.Send(t.Context())
	must(t, err)
	output, without := watch.Stop(), plain.Stop()
	if len(output.Packets) != 2 || len(without.Packets) != 2 {
		t.Fatalf("%d and %d records, want 2", len(output.Packets), len(without.Packets))
	}
	for i, want := range []string{"udp_sendmsg+", "tcp_sendmsg_locked+"} {
		p := &output.Packets[i]
		t.Logf("%s", strings.Join(p.Stack, "\n"))
		if len(without.Packets[i].Stack) != 0 {
			t.Errorf("without --stack there is one: %q", without.Packets[i].Stack)
		}
		_, kernel := frame(p.Stack, want)
		if i == 1 && kernel < 0 { // the cork is taken out by setsockopt
			_, kernel = frame(p.Stack, "do_tcp_setsockopt+")
		}
		_, entry := frame(p.Stack, "do_syscall_64+")
		user := slices.IndexFunc(p.Stack, func(f string) bool {
			return strings.Contains(f, "/netns.test+0x") || strings.Contains(f, "/netns.test)")
		})
		if kernel < 0 || entry < kernel || user <= entry {
			t.Errorf("%s is frame %d, the kernel's entry %d, the program's first %d of %q", want, kernel, entry, user, p.Stack)
		}
		for _, f := range p.Stack {
			if strings.Contains(f, "bpf_prog") || strings.Contains(f, "[bpf]") {
				t.Errorf("a frame is the tracer's own: %s", f)
			}
		}
	}
}

// A timer sends what was not acknowledged again: that is no call of the process that
// happens to run.
func TestRetransmissionHasNoStack(t *testing.T) {
	l := newLab(t)
	sink := l.tcpSink(farAddress.Addr())
	tcp := l.tcp(sink.Local(), rocket.Options{NoWait: true})
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json", "--stack", "--count", "4")
	must(t, l.far.Namespace.Do(forgetAddresses))
	_, err := tcp.Send(t.Context())
	must(t, err)
	output := watch.Wait()
	if len(output.Packets) != 4 {
		t.Fatalf("%d records, want 4", len(output.Packets))
	}
	if len(output.Packets[0].Stack) == 0 {
		t.Error("the first transmission has no stack")
	}
	for _, p := range output.Packets[1:] {
		if p.TCP == nil || p.TCP.Retransmits == 0 && p.TCP.Seq != output.Packets[0].TCP.Seq {
			t.Errorf("not a retransmission: %s", &p)
		}
		if len(p.Stack) != 0 {
			t.Errorf("a retransmission has a stack: %q", p.Stack)
		}
	}
}

// forgetAddresses takes them from the far end, which answers nothing then.
func forgetAddresses() error {
	link, err := netlink.LinkByName("far")
	if err != nil {
		return err
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	for i := range addresses {
		err = errors.Join(err, netlink.AddrDel(link, &addresses[i]))
	}
	return err
}

// A process of an unprivileged user with 65,000 mappings that loses 2,000 packets a second
// hides none of another user's records, nor their stacks, and fills no memory.
func TestStacksOfOneUserDoNotHideThoseOfAnother(t *testing.T) {
	l := newLab(t)
	remote := l.udpSink(farAddress.Addr()).Local().String()
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json", "--stack")
	hostile := process.Start(t, "hostile", nobody, "mappings", remote)
	hostile.Line()
	victim := process.Start(t, "victim", nobody-1, "threads", remote, "40")
	for range 40 {
		victim.Number()
	}
	output := watch.Stop()
	victims, stacks, others := 0, 0, 0
	for i := range output.Packets {
		p := &output.Packets[i]
		switch {
		case p.Process == nil:
			t.Errorf("a record without an owner: %s", p)
		case p.Process.PID == hostile.PID():
			others++
		case p.Process.PID == victim.PID():
			victims++
			if slices.ContainsFunc(p.Stack, func(f string) bool { return strings.Contains(f, "/victim+0x") || strings.Contains(f, "/victim)") }) {
				stacks++
			}
		}
	}
	if victims != 40 || stacks != 40 || others == 0 {
		t.Errorf("%d of 40 records, %d with the program's part of the stack, beside %d of the other user", victims, stacks, others)
	}
	if limit := 100 << 10; output.MaxRSS > limit {
		t.Errorf("%d KiB resident, limit is %d", output.MaxRSS, limit)
	}
	t.Logf("%d records of the hostile process, %d KiB resident", others, output.MaxRSS)
}
