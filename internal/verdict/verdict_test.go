package verdict

import (
	"strings"
	"testing"

	"xentrace/internal/event"
)

func TestEveryCauseIsExplained(t *testing.T) {
	for _, cause := range event.Causes() {
		rule := OfCause(cause)
		if rule.Name != cause.String() {
			t.Errorf("rule of %s is named %q", cause, rule.Name)
		}
		checkRule(t, rule)
		if len(rule.Meaning) > 0 && cause != event.UnknownCause && rule.Meaning == OfCause(event.UnknownCause).Meaning {
			t.Errorf("%s has no meaning of its own", cause)
		}
	}
}

func TestEveryOtherVerdictIsExplained(t *testing.T) {
	for _, v := range []event.Verdict{event.Linearized, event.Bounced, event.OverLimit, event.Rejected} {
		rule := OfVerdict(v)
		if rule.Name != v.String() {
			t.Errorf("rule of %s is named %q", v, rule.Name)
		}
		checkRule(t, rule)
	}
	if rule := OfVerdict(event.Sent); rule.Meaning != "" || rule.Name != "sent" {
		t.Errorf("sent is explained: %+v", rule)
	}
}

func TestReasonsAreExplained(t *testing.T) {
	for reason := range reasonRules {
		rule := OfReason(reason)
		if rule.Name != reason {
			t.Errorf("rule of %s is named %q", reason, rule.Name)
		}
		checkRule(t, rule)
	}
	for reason, want := range map[string]struct{ name, command string }{
		"":                     {"elsewhere", "xentrace watch -i {ifname} --drops all -v"},
		"QDISC_DROP_OVERLIMIT": {"QDISC_DROP_OVERLIMIT", "tc -s qdisc show dev {ifname}"},
		"NETFILTER_DROP":       {"NETFILTER_DROP", "nft list ruleset"},
		"A_REASON_TO_COME":     {"A_REASON_TO_COME", "xentrace watch -i {ifname} --drops all -v"},
	} {
		rule := OfReason(reason)
		if rule.Name != want.name || rule.Advice[0].Command != want.command {
			t.Errorf("reason %q: rule %s advises %q, want %s and %q", reason, rule.Name, rule.Advice[0].Command, want.name, want.command)
		}
		checkRule(t, rule)
	}
}

// checkRule fails where a rule is not made of whole sentences.
func checkRule(t *testing.T, rule Rule) {
	t.Helper()
	if !isSentence(rule.Meaning) {
		t.Errorf("%s: meaning %q is no sentence", rule.Name, rule.Meaning)
	}
	if len(rule.Advice) == 0 {
		t.Errorf("%s: no advice", rule.Name)
	}
	for _, a := range rule.Advice {
		if !isSentence(a.Effect) {
			t.Errorf("%s: effect %q is no sentence", rule.Name, a.Effect)
		}
		if a.Cost != "" && !isSentence(a.Cost) {
			t.Errorf("%s: cost %q is no sentence", rule.Name, a.Cost)
		}
		if strings.Contains(a.Effect+a.Cost+rule.Meaning, "{") {
			t.Errorf("%s: placeholder outside a command", rule.Name)
		}
	}
}

func isSentence(s string) bool {
	return s != "" && strings.ToUpper(s[:1]) == s[:1] && strings.HasSuffix(s, ".")
}

func TestUnknownCauseNumberHasARule(t *testing.T) {
	if got := OfCause(event.Cause(200)).Name; got != "unknown" {
		t.Errorf("rule of cause 200 is %q, want unknown", got)
	}
}

func TestNothingAdvisesToTurnScatterGatherOff(t *testing.T) {
	for _, cause := range event.Causes() {
		for _, a := range OfCause(cause).Advice {
			if strings.Contains(a.Command, "sg off") {
				t.Errorf("%s: %q loses packets from Linux 6.3 on", cause, a.Command)
			}
		}
	}
}

func TestCommandQuotesTheInterface(t *testing.T) {
	a := event.Advice{Command: "ethtool -K {ifname} sg on"}
	for name, want := range map[string]string{
		"eth0":       "ethtool -K eth0 sg on",
		"eth0.100":   "ethtool -K eth0.100 sg on",
		"$(reboot)":  "ethtool -K '$(reboot)' sg on",
		"it's;x":     `ethtool -K 'it'\''s;x' sg on`,
		"":           "ethtool -K '' sg on",
		"veth@if3-b": "ethtool -K veth@if3-b sg on",
	} {
		if got := a.For(name); got != want {
			t.Errorf("For(%q) = %s, want %s", name, got, want)
		}
	}
	if !a.OfInterface() || (event.Advice{Command: "sysctl -w a=1"}).OfInterface() {
		t.Error("OfInterface does not tell commands with an interface from others")
	}
}

func TestDifference(t *testing.T) {
	moved := func(n uint64) *uint64 { return &n }
	for name, c := range map[string]struct {
		dropped uint64
		moved   *uint64
		driver  string
		backend event.Backend
		queues  int
		gone    bool
		want    []string // parts of the sentence; none: no sentence
	}{
		"the same":                 {400, moved(400), Netfront, event.Fentry, 2, false, nil},
		"not read":                 {400, nil, Netfront, event.Fentry, 2, false, nil},
		"core dropped too":         {400, moved(403), Netfront, event.Fentry, 2, false, []string{"3 more", "core"}},
		"tracepoints do not see":   {400, moved(403), Netfront, event.Tracepoint, 2, false, []string{"3 more", "netpoll"}},
		"queues lose increments":   {400, moved(398), Netfront, event.Kprobe, 4, false, []string{"2 fewer", "4 queues", "lock"}},
		"went away":                {400, moved(398), Netfront, event.Kprobe, 1, true, []string{"2 fewer", "went away"}},
		"one queue cannot":         {400, moved(398), Netfront, event.Kprobe, 1, false, []string{"2 fewer", "one queue"}},
		"another driver's reasons": {0, moved(7), "veth", event.Tracepoint, 1, false, []string{"veth is not xen-netfront"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Difference(&event.InterfaceTotals{
				Driver: c.driver, Backend: c.backend, Queues: c.queues, Gone: c.gone,
				Counts: event.Counts{Dropped: c.dropped}, TxDroppedDelta: c.moved,
			})
			if len(c.want) == 0 && got != "" {
				t.Errorf("got %q, want nothing", got)
			}
			for _, part := range c.want {
				if !strings.Contains(got, part) {
					t.Errorf("got %q, want %q in it", got, part)
				}
			}
		})
	}
}
