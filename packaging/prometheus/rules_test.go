package prometheus

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const rules = "xentrace.rules.yml"

func promtool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command(program(t, "promtool"), args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "SUCCESS") {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRulesAreValid(t *testing.T) { promtool(t, "check", "rules", "--lint-fatal", rules) }

func TestAlertsFireAndResolve(t *testing.T) { promtool(t, "test", "rules", "testdata/alerts_test.yml") }

// Each alert has a severity, a summary, a description and a runbook, and a test.
func TestEveryAlertIsComplete(t *testing.T) {
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("testdata/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := strings.Split(string(text), "- alert: ")[1:]
	if len(alerts) < 10 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, alert := range alerts {
		name, _, _ := strings.Cut(alert, "\n")
		for _, key := range []string{"severity: (page|warning)\n", "summary: ", "description: ", `runbook: \|\n`} {
			if !regexp.MustCompile("(?m)^ +" + key).MatchString(alert) {
				t.Errorf("%s has no %s", name, key)
			}
		}
		if !regexp.MustCompile(name + `", alertstate="firing"`).Match(tests) {
			t.Errorf("no test in which %s fires", name)
		}
	}
}
