package output

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/event"
)

// MetricStatus is the value of a status in metrics, which is also what a Nagios plugin exits
// with: 0 OK, 1 WARN, 2 FAIL, 3 UNKNOWN.
func MetricStatus(s event.Status) int {
	return map[event.Status]int{event.OK: 0, event.Warn: 1, event.Fail: 2, event.Unknown: 3}[s]
}

// AppendPrometheus appends findings in the text format of Prometheus, as node_exporter's
// textfile collector reads it. at is when check ran.
func AppendPrometheus(b []byte, findings []event.Finding, at time.Time) []byte {
	b = appendFamily(b, "xentrace_check_status", "Status of a finding of xentrace check: 0 OK, 1 WARN, 2 FAIL, 3 UNKNOWN.")
	for i := range findings {
		f := &findings[i]
		b = fmt.Appendf(b, "xentrace_check_status{%sid=\"%s\"} %d\n", deviceLabels(f, ","), f.ID, MetricStatus(f.Status))
	}
	if linearizes, known := linearizes(findings); known {
		b = appendFamily(b, "xentrace_driver_linearizes", "Whether the driver linearizes packets over the slot limit.")
		for i := range findings {
			if f := &findings[i]; f.ID == "driver" && f.Fact("driver") == "xen-netfront" {
				b = fmt.Appendf(b, "xentrace_driver_linearizes{%s} %d\n", deviceLabels(f, ""), linearizes)
			}
		}
	}
	b = appendFamily(b, "xentrace_check_timestamp_seconds", "When xentrace check ran last, as Unix time.")
	return fmt.Appendf(b, "xentrace_check_timestamp_seconds %d\n", at.Unix())
}

func appendFamily(b []byte, name, help string) []byte {
	return fmt.Appendf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
}

// linearizes returns 1 if the driver does, 0 if not, as far as that was found.
func linearizes(findings []event.Finding) (value int, known bool) {
	for i := range findings {
		if f := &findings[i]; f.ID == "linearize" {
			switch f.Status {
			case event.OK:
				return 1, true
			case event.Fail:
				return 0, true
			}
		}
	}
	return 0, false
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// deviceLabels are the labels of a finding's interface; empty for the machine.
func deviceLabels(f *event.Finding, end string) string {
	if f.Interface == "" {
		return ""
	}
	name := labelEscapes.Replace(Escape(f.Interface))
	return `device="` + name + `",netns="` + strconv.FormatUint(uint64(f.NetNS), 10) + `"` + end
}

// Nagios reads all behind a bar as performance data.
var withoutBar = strings.NewReplacer("|", "/")

var nagiosWords = map[event.Status]string{event.OK: "OK", event.Warn: "WARNING", event.Fail: "CRITICAL", event.Unknown: "UNKNOWN"}

// AppendNagios appends findings as a Nagios plugin prints them: a line with the worst status
// and performance data, and a line for each finding that is not OK.
func AppendNagios(b []byte, findings []event.Finding) []byte {
	worst, count := event.OK, make(map[event.Status]int)
	var names, lines []string
	for i := range findings {
		f := &findings[i]
		worst = max(worst, f.Status)
		if count[f.Status]++; f.Status == event.OK {
			continue
		}
		name := string(f.ID)
		if f.Interface != "" {
			name += " of " + Escape(f.Interface)
		}
		names = append(names, name)
		lines = append(lines, withoutBar.Replace(f.Status.String()+" "+name+": "+Printable(f.Message)))
	}
	sentence := fmt.Sprintf("%d findings, all OK", len(findings))
	if len(names) > 0 {
		sentence = fmt.Sprintf("%d of %d findings not OK: ", len(names), len(findings)) + strings.Join(names, ", ")
	}
	b = fmt.Appendf(b, "XENTRACE %s: %s | ok=%d;;;0 unknown=%d;;;0 warn=%d;0;;0 fail=%d;;0;0\n", nagiosWords[worst], withoutBar.Replace(sentence),
		count[event.OK], count[event.Unknown], count[event.Warn], count[event.Fail])
	for _, line := range lines {
		b = append(append(b, line...), '\n')
	}
	return b
}

// NagiosFailure is what a Nagios plugin prints if it could not look.
func NagiosFailure(err error) string {
	return "XENTRACE UNKNOWN: " + withoutBar.Replace(Printable(strings.ReplaceAll(err.Error(), "\n", "; "))) + "\n"
}
