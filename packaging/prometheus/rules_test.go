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
	tests := read(t, "testdata/alerts_test.yml")
	alerts := strings.Split(read(t, rules), "- alert: ")[1:]
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
		if !regexp.MustCompile(name + `", alertstate="firing"`).MatchString(tests) {
			t.Errorf("no test in which %s fires", name)
		}
	}
}

// Rules and dashboard read only metrics that docs/metrics.md lists, or that Prometheus and
// client_golang add.
func TestMetricsAreDocumented(t *testing.T) {
	documented := read(t, "../../docs/metrics.md")
	recorded := regexp.MustCompile(`\w+:xentrace_\w+:\w+`)
	suffix := regexp.MustCompile("_(bucket|sum|count)$") // of a histogram
	names := 0
	for _, file := range []string{rules, dashboard} {
		text := recorded.ReplaceAllString(read(t, file), "")
		for _, name := range regexp.MustCompile(`\bxentrace_[a-z_]+`).FindAllString(text, -1) {
			names++
			if !strings.Contains(documented, "`"+suffix.ReplaceAllString(name, "")+"`") {
				t.Errorf("%s: %s is not in docs/metrics.md", file, name)
			}
		}
	}
	if names < 40 {
		t.Errorf("%d names", names)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
