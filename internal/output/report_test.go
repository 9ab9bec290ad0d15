package output

import (
	"encoding/json"
	"strings"
	"testing"

	"xentrace/internal/check"
	"xentrace/internal/event"
)

// sampleReport has a finding of every status, and names that others chose.
func sampleReport() *event.Report {
	return &event.Report{
		Findings: []event.Finding{
			{ID: check.ScatterGather, Status: event.Fail, Interface: "e\x1b[31m", NetNS: 4026532000, Message: "Scatter-gather is off, so a packet that needs two slots is dropped.",
				Evidence: []event.Fact{{Key: "on", Value: false}, {Key: "small_head_bytes", Value: 704}, {Key: "file", Value: nil}, {Key: "code", Value: "a \"call\""}},
				Advice:   []event.Advice{{Command: "ethtool -K 'e\x1b[31m' sg on", Effect: "It is on again.", Cost: "Nothing much."}, {Effect: "Or wait."}}},
			{ID: check.TxDropped, Status: event.Warn, Interface: "eth0", NetNS: 4026531840, Message: "5 packets were dropped."},
			{ID: check.KernelLog, Status: event.Unknown, Message: "The kernel's log cannot be read: that needs root."},
			{ID: check.Virtualization, Message: "This is a guest of Xen.", Evidence: []event.Fact{{Key: "hypervisor", Value: "xen"}}},
		},
		EC2RL: []event.Opinion{
			{Module: "xennetsgmtu", Interface: "eth0", Verdict: "SUCCESS", Right: addressOf(false), Message: "Scatter-gather is on."},
			{Module: "xennetrocket", Message: "The log cannot be read."},
		},
	}
}

func TestReportInText(t *testing.T) {
	text := &Text{Width: func() int { return 72 }}
	want := `FAIL    scatter_gather e\x1b[31m (network namespace 4026532000):
        Scatter-gather is off, so a packet that needs two slots is
        dropped.
        (on: false, small_head_bytes: 704, file: unknown, code: a
        "call")
      # ethtool -K 'e\x1b[31m' sg on
        It is on again. Cost: nothing much.
        Or wait.

WARN    tx_dropped eth0 (network namespace 4026531840): 5 packets were
        dropped.
UNKNOWN kernel_log: The kernel's log cannot be read: that needs root.
OK      virtualization: This is a guest of Xen.

What ec2rl would say here
SUCCESS xennetsgmtu eth0, wrong: Scatter-gather is on.
?       xennetrocket, that cannot be told: The log cannot be read.

1 FAIL, 1 WARN, 1 UNKNOWN, 1 OK
`
	if got := string(text.AppendReport(nil, sampleReport())); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text.Evidence, text.Color = true, true
	got := string(text.AppendReport(nil, sampleReport()))
	for _, part := range []string{"(hypervisor: xen)\n", "\x1b[31mFAIL\x1b[0m    scatter_gather", "\x1b[33mWARN\x1b[0m ", "\x1b[35mUNKNOWN\x1b[0m ", "\x1b[32mOK\x1b[0m "} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in %q", part, got)
		}
	}
	if strings.Contains(got, "e\x1b[31m") {
		t.Error("an interface's name reaches the terminal as it is")
	}
}

func TestReportInJSON(t *testing.T) {
	want := []string{
		`{"type":"finding","id":"scatter_gather","status":"FAIL","ifname":"e\u001b[31m","netns":4026532000,"message":"Scatter-gather is off, so a packet that needs two slots is dropped.",` +
			`"evidence":{"on":false,"small_head_bytes":704,"file":null,"code":"a \"call\""},` +
			`"advice":[{"command":"ethtool -K 'e\u001b[31m' sg on","effect":"It is on again.","cost":"Nothing much."},{"command":null,"effect":"Or wait.","cost":null}]}`,
		`{"type":"finding","id":"tx_dropped","status":"WARN","ifname":"eth0","netns":4026531840,"message":"5 packets were dropped.","evidence":{},"advice":[]}`,
		`{"type":"finding","id":"kernel_log","status":"UNKNOWN","ifname":null,"netns":null,"message":"The kernel's log cannot be read: that needs root.","evidence":{},"advice":[]}`,
		`{"type":"finding","id":"virtualization","status":"OK","ifname":null,"netns":null,"message":"This is a guest of Xen.","evidence":{"hypervisor":"xen"},"advice":[]}`,
		`{"type":"ec2rl","module":"xennetsgmtu","ifname":"eth0","verdict":"SUCCESS","right":false,"message":"Scatter-gather is on."}`,
		`{"type":"ec2rl","module":"xennetrocket","ifname":null,"verdict":null,"right":null,"message":"The log cannot be read."}`,
	}
	lines := strings.Split(strings.TrimSuffix(string(JSON{}.AppendReport(nil, sampleReport())), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(lines), len(want))
	}
	for n, line := range lines {
		if line != want[n] || !json.Valid([]byte(line)) {
			t.Errorf("got  %s\nwant %s", line, want[n])
		}
	}
}
