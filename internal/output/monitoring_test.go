package output

import (
	"errors"
	"testing"
	"time"

	"xentrace/internal/event"
)

func monitored() []event.Finding {
	return []event.Finding{
		{ID: "linearize", Status: event.Fail, Message: "Driver drops every packet over 18 slots."},
		{ID: "mtu", Status: event.Warn, Interface: "e\x1b\"\\|", NetNS: 7, Message: "MTU is 9000 | not 1500."},
		{ID: "kernel_log", Status: event.Unknown, Message: "Needs root."},
		{ID: "driver", Interface: "e\x1b\"\\|", NetNS: 7, Evidence: []event.Fact{{Key: "driver", Value: "xen-netfront"}}},
		{ID: "driver", Interface: "lan\xff", NetNS: 7, Evidence: []event.Fact{{Key: "driver", Value: "veth"}}},
	}
}

func TestFindingsForPrometheus(t *testing.T) {
	got := string(AppendPrometheus(nil, monitored(), time.Unix(1790000000, 0)))
	const want = `# HELP xentrace_check_status Status of a finding of xentrace check: 0 OK, 1 WARN, 2 FAIL, 3 UNKNOWN.
# TYPE xentrace_check_status gauge
xentrace_check_status{id="linearize"} 2
xentrace_check_status{device="e\\x1b\"\\\\|",netns="7",id="mtu"} 1
xentrace_check_status{id="kernel_log"} 3
xentrace_check_status{device="e\\x1b\"\\\\|",netns="7",id="driver"} 0
xentrace_check_status{device="lan\\xff",netns="7",id="driver"} 0
# HELP xentrace_driver_linearizes Whether the driver linearizes packets over the slot limit.
# TYPE xentrace_driver_linearizes gauge
xentrace_driver_linearizes{device="e\\x1b\"\\\\|",netns="7"} 0
# HELP xentrace_check_timestamp_seconds When xentrace check ran last, as Unix time.
# TYPE xentrace_check_timestamp_seconds gauge
xentrace_check_timestamp_seconds 1790000000
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFindingsForNagios(t *testing.T) {
	for _, test := range []struct {
		findings []event.Finding
		want     string
	}{
		{monitored(), `XENTRACE CRITICAL: 3 of 5 findings not OK: linearize, mtu of e\x1b"\\/, kernel_log | ok=2;;;0 unknown=1;;;0 warn=1;0;;0 fail=1;;0;0
FAIL linearize: Driver drops every packet over 18 slots.
WARN mtu of e\x1b"\\/: MTU is 9000 / not 1500.
UNKNOWN kernel_log: Needs root.
`},
		{monitored()[1:4], `XENTRACE WARNING: 2 of 3 findings not OK: mtu of e\x1b"\\/, kernel_log | ok=1;;;0 unknown=1;;;0 warn=1;0;;0 fail=0;;0;0
WARN mtu of e\x1b"\\/: MTU is 9000 / not 1500.
UNKNOWN kernel_log: Needs root.
`},
		{monitored()[2:], "XENTRACE UNKNOWN: 1 of 3 findings not OK: kernel_log | ok=2;;;0 unknown=1;;;0 warn=0;0;;0 fail=0;;0;0\nUNKNOWN kernel_log: Needs root.\n"},
		{monitored()[3:], "XENTRACE OK: 2 findings, all OK | ok=2;;;0 unknown=0;;;0 warn=0;0;;0 fail=0;;0;0\n"},
	} {
		if got := string(AppendNagios(nil, test.findings)); got != test.want {
			t.Errorf("got\n%s\nwant\n%s", got, test.want)
		}
	}
	if got, want := NagiosFailure(errors.New("no\ninterface | eth7")), "XENTRACE UNKNOWN: no; interface / eth7\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
