package output

import (
	"strings"
	"testing"
)

// The call that sent a packet stands below its line, whatever its functions and files
// are called.
func TestStackBelowPacket(t *testing.T) {
	p := samplePackets()[0]
	p.Stack = []string{"xennet_start_xmit+0x44 [xen_netfront]", "do_syscall_64+0x71", "send\x1b[2J+0x5 (/opt/a\nb)"}
	for _, test := range []struct {
		name   string
		stacks bool
		want   int
	}{{"asked for", true, 3}, {"not asked for", false, 0}} {
		text := &Text{Stacks: test.stacks, Whole: true}
		lines := strings.Split(strings.TrimSuffix(string(text.AppendPacket(nil, &p)), "\n"), "\n")
		below := lines[2:] // the header and the packet
		if len(below) != test.want {
			t.Fatalf("%s: %d lines below the packet, want %d: %q", test.name, len(below), test.want, lines)
		}
		for i, line := range below {
			if want := Escape(p.Stack[i]); strings.TrimSpace(line) != want || strings.ContainsAny(line, "\x1b") {
				t.Errorf("line %d is %q, want %q", i, line, want)
			}
		}
	}
}
