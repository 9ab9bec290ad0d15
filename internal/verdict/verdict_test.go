package verdict

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
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
	for reason, want := range map[string]struct {
		name  string
		first remedy.ID
	}{
		"":                     {"elsewhere", remedy.WatchElsewhere},
		"QDISC_DROP_OVERLIMIT": {"QDISC_DROP_OVERLIMIT", remedy.QdiscState},
		"NETFILTER_DROP":       {"NETFILTER_DROP", remedy.NFTRules},
		"A_REASON_TO_COME":     {"A_REASON_TO_COME", remedy.WatchElsewhere},
	} {
		rule := OfReason(reason)
		if rule.Name != want.name || rule.Remedies[0] != want.first {
			t.Errorf("reason %q: rule %s has %q, want %s and first %s", reason, rule.Name, rule.Remedies, want.name, want.first)
		}
		checkRule(t, rule)
	}
}

// checkRule fails where a rule is not made of whole sentences, or names a remedy that is not
// in the catalogue.
func checkRule(t *testing.T, rule Rule) {
	t.Helper()
	if !isSentence(rule.Meaning) || strings.Contains(rule.Meaning, "{") {
		t.Errorf("%s: meaning %q is no sentence", rule.Name, rule.Meaning)
	}
	for _, id := range rule.Remedies {
		if remedy.Of(id).Effect == "" {
			t.Errorf("%s: no remedy is called %s", rule.Name, id)
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

// What is lost has a remedy; what is not lost may have none.
func TestEveryDropHasARemedy(t *testing.T) {
	for _, cause := range event.Causes() {
		if len(OfCause(cause).Remedies) == 0 {
			t.Errorf("%s: no remedy", cause)
		}
	}
	for reason := range reasonRules {
		if len(OfReason(reason).Remedies) == 0 {
			t.Errorf("%s: no remedy", reason)
		}
	}
	if len(OfVerdict(event.Rejected).Remedies) == 0 {
		t.Error("rejected: no remedy")
	}
}

func TestNothingButAStallTurnsScatterGatherOff(t *testing.T) {
	for _, cause := range event.Causes() {
		if slices.Contains(OfCause(cause).Remedies, remedy.SGOff) {
			t.Errorf("%s: scatter-gather off loses packets from Linux 6.3 on", cause)
		}
	}
}

func TestExplain(t *testing.T) {
	one := uint64(1)
	eth0, eth1 := event.Device{Index: 2, Name: "eth0"}, event.Device{Index: 3, Name: "eth1"}
	totals := &event.Totals{Interfaces: []event.InterfaceTotals{
		{Device: eth0, Driver: Netfront, Counts: event.Counts{Dropped: 3, Linearized: 2, OverLimit: 2}, Rejected: &one},
		{Device: eth1, Driver: Netfront, Counts: event.Counts{Dropped: 4, Elsewhere: 5}},
	}}
	totals.Interfaces[0].Causes[event.SGOff] = 3
	totals.Interfaces[1].Causes[event.SGOff] = 4
	facts := func(d event.Device) remedy.Facts {
		return remedy.Facts{Interface: d.Name, Linearizes: remedy.On, SinglePages: remedy.On}
	}
	var got []string
	for _, e := range Explain(totals, facts) {
		line := fmt.Sprintf("%s %d", e.Name, e.Count)
		for _, a := range e.Advice {
			line += fmt.Sprintf("; %s %s", a.ID, a.Command)
		}
		got = append(got, line)
	}
	want := []string{
		"sg_off 7; sg-on ethtool -K eth0 sg on; sg-on ethtool -K eth1 sg on",
		"elsewhere 5; watch-elsewhere ; qdisc-state tc -s qdisc show dev eth1",
		"rejected 1; rejected-packets ; backend-debug ", // the driver linearizes already
		"linearized 2", // single pages are set already
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if none := Explain(&event.Totals{Interfaces: []event.InterfaceTotals{{Device: eth0, Driver: Netfront}}}, facts); none != nil {
		t.Errorf("nothing was counted, and explained is %+v", none)
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
