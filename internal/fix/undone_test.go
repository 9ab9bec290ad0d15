package fix

import (
	"testing"

	"xentrace/internal/check"
	"xentrace/internal/event"
)

// What is made to last says which lines of other files would undo it at the next boot.
func TestWhatIsUndoneAtBoot(t *testing.T) {
	origins := []check.Origin{
		{Place: "/etc/rc.local:3", Setting: "sg", Interface: "eth0"},
		{Place: "/etc/rc.local:4", Setting: "sg", Interface: "eth1"},
		{Place: "/etc/udev/rules.d/70-net.rules:1", Setting: "tso"},
		{Place: "/etc/udev/rules.d/90-xentrace-fix-eth0.rules:2", Setting: "mtu", Interface: "eth0", Value: 9000},
		{Place: "/etc/netplan/1.yaml:9", Setting: "mtu", Value: 9001},
		{Place: "/etc/netplan/2.yaml:9", Setting: "mtu", Value: 1500},
		{Place: "/etc/sysctl.d/10-old.conf:1", Setting: HighOrder},
		{Place: "/usr/lib/sysctl.d/99-late.conf:1", Setting: HighOrder},
		{Place: "/etc/sysctl.conf:7", Setting: HighOrder},
		{Place: "/etc/sysctl.conf:8", Setting: HighOrder, Value: 1},
	}
	const says = "May be undone at the next boot, so change these lines too: "
	for _, test := range []struct {
		name  string
		steps []string
		want  map[string]string // by path; "" where nothing is said
	}{
		{"scatter-gather on", []string{"sg-on"}, map[string]string{
			"/etc/udev/rules.d/90-xentrace-fix-eth0.rules": says + "/etc/rc.local:3 (sg off).",
			"/etc/udev/rules.d/90-xentrace-fix-eth1.rules": says + "/etc/rc.local:4 (sg off).",
		}},
		{"scatter-gather off", []string{"sg-off"}, map[string]string{
			"/etc/udev/rules.d/90-xentrace-fix-eth0.rules": "", "/etc/udev/rules.d/90-xentrace-fix-eth1.rules": "",
		}},
		{"segmentation and MTU", []string{"tso-gso-on", "mtu-1500"}, map[string]string{
			"/etc/udev/rules.d/90-xentrace-fix-eth0.rules": says + "/etc/udev/rules.d/70-net.rules:1 (tso off), /etc/netplan/1.yaml:9 (mtu 9001).",
			"/etc/udev/rules.d/90-xentrace-fix-eth1.rules": says + "/etc/udev/rules.d/70-net.rules:1 (tso off), /etc/netplan/1.yaml:9 (mtu 9001).",
		}},
		{"single pages", []string{"single-pages"}, map[string]string{
			sysctlFile: says + "/usr/lib/sysctl.d/99-late.conf:1 (net.core.high_order_alloc_disable 0), /etc/sysctl.conf:7 (net.core.high_order_alloc_disable 0).",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newFakeMachine(t)
			plan := m.plan(t, test.steps...)
			plan.machine = &check.Machine{Origins: origins}
			steps, err := m.fixer().Preview(plan, Udev)
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range steps {
				want, known := test.want[step.Path]
				if !known || step.Message != want || step.Status != event.Planned {
					t.Errorf("%s: %q, want %q", step.Path, step.Message, want)
				}
				delete(test.want, step.Path)
			}
			if len(test.want) > 0 {
				t.Errorf("not among the steps: %v", test.want)
			}
		})
	}
}
