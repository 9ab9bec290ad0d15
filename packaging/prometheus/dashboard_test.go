package prometheus

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

const dashboard = "../grafana/xentrace.json"

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Expr, LegendFormat string
		Instant            bool
	}
}

type board struct {
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

func readDashboard(t *testing.T) board {
	t.Helper()
	var b board
	if err := json.Unmarshal([]byte(read(t, dashboard)), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// What the recorded data begin and end with: two guests, of which one drops 2 of 100
// packets and has 2 stalled connections.
const (
	first = "1795700060"
	last  = "1795700180"
)

// inGrafana replaces what Grafana replaces, with all guests and interfaces chosen.
var inGrafana = strings.NewReplacer("$job", ".*", "$instance", ".*", "$device", ".*", "$__rate_interval", "1m", "$__range", "3m")

// Every query of the dashboard is accepted by Prometheus, and has data that its legend can
// name.
func TestDashboardQueries(t *testing.T) {
	server := serve(t, "testdata/recorded.om")
	queries := 0
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			queries++
			expr := inGrafana.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: a variable that the dashboard lacks: %s", panel.Title, expr)
			}
			path, parameters := "query_range", url.Values{"query": {expr}, "start": {first}, "end": {last}, "step": {"15"}}
			if target.Instant {
				path, parameters = "query", url.Values{"query": {expr}, "time": {last}}
			}
			result, err := query(server, path, parameters)
			if err != nil || len(result) == 0 {
				t.Errorf("%s: %s: %d series, %v", panel.Title, expr, len(result), err)
				continue
			}
			for _, series := range result {
				for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
					if series.Metric[label[1]] == "" {
						t.Errorf("%s: %v has no label %s", panel.Title, series.Metric, label[1])
					}
				}
				if series.last() == "NaN" {
					t.Errorf("%s: %v ends in NaN", panel.Title, series.Metric)
				}
			}
		}
	}
	if queries < 25 {
		t.Errorf("%d queries", queries)
	}
	for title, want := range map[string]string{
		"Stalled connections": "2", "Packets lost": "0.01", "Packets dropped": "360",
		"Drivers that drop large packets": "1", "Checks failed": "1", "Guests without metrics": "0",
	} {
		result, err := query(server, "query", url.Values{"query": {"round(" + statQuery(t, title) + ", 0.001)"}, "time": {last}})
		if err != nil || len(result) != 1 || result[0].last() != want {
			t.Errorf("%s: %v (%v), want %s", title, result, err, want)
		}
	}
	variables(t, server)
}

func statQuery(t *testing.T, title string) string {
	t.Helper()
	for _, panel := range readDashboard(t).Panels {
		if panel.Type == "stat" && panel.Title == title {
			return inGrafana.Replace(panel.Targets[0].Expr)
		}
	}
	t.Fatalf("no panel %s", title)
	return ""
}

// variables checks that each variable of the dashboard has values.
func variables(t *testing.T, server string) {
	t.Helper()
	asked := 0
	for _, variable := range readDashboard(t).Templating.List {
		if variable.Type != "query" {
			continue
		}
		asked++
		parts := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(variable.Definition)
		if parts == nil {
			t.Errorf("%s: %s", variable.Name, variable.Definition)
			continue
		}
		result, err := query(server, "query", url.Values{"query": {inGrafana.Replace(parts[1])}, "time": {last}})
		if err != nil || len(result) == 0 || result[0].Metric[parts[2]] == "" {
			t.Errorf("%s: %v (%v)", variable.Name, result, err)
		}
	}
	if asked != 3 {
		t.Errorf("%d variables", asked)
	}
}

// Panels have numbers of their own and do not overlap.
func TestDashboardLayout(t *testing.T) {
	at := map[[2]int]string{}
	ids := map[int]string{}
	for _, panel := range readDashboard(t).Panels {
		if other, there := ids[panel.ID]; there {
			t.Errorf("%s and %s have the id %d", panel.Title, other, panel.ID)
		}
		ids[panel.ID] = panel.Title
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				if other, there := at[[2]int{x, y}]; there || x >= 24 {
					t.Fatalf("%s is at column %d, row %d, where %q is", panel.Title, x, y, other)
				}
				at[[2]int{x, y}] = panel.Title
			}
		}
	}
}
