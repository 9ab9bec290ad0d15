package output

import (
	"encoding/json"

	"xentrace/internal/check"
	"xentrace/internal/event"
)

// AppendReport appends a line of type finding for each, and one of type ec2rl for
// each verdict of ec2rl.
func (JSON) AppendReport(b []byte, r *check.Report) []byte {
	for n := range r.Findings {
		b = appendFinding(b, &r.Findings[n])
	}
	for n := range r.EC2RL {
		b = appendOpinion(b, &r.EC2RL[n])
	}
	return b
}

func appendFinding(b []byte, f *event.Finding) []byte {
	b = append(b, `{"type":"finding","id":`...)
	b = appendString(b, string(f.ID))
	b = append(b, `,"status":`...)
	b = appendString(b, f.Status.String())
	b = appendNamed(b, `,"ifname":`, f.Interface)
	if f.NetNS == 0 {
		b = append(b, `,"netns":null`...)
	} else {
		b = appendUint(b, `,"netns":`, uint64(f.NetNS))
	}
	b = append(b, `,"message":`...)
	b = appendString(b, f.Message)
	b = append(b, `,"evidence":{`...)
	for n, fact := range f.Evidence {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, fact.Key), ':')
		value, _ := json.Marshal(fact.Value) // of simple types, which always can be
		b = append(b, value...)
	}
	b = append(b, `},"advice":[`...)
	for n, a := range f.Advice {
		if n > 0 {
			b = append(b, ',')
		}
		b = appendFindingAdvice(b, a)
	}
	return append(b, "]}\n"...)
}

func appendFindingAdvice(b []byte, a event.Advice) []byte {
	b = appendNamed(b, `{"command":`, a.Command)
	b = appendNamed(b, `,"effect":`, a.Effect)
	b = appendNamed(b, `,"cost":`, a.Cost)
	return append(b, '}')
}

func appendOpinion(b []byte, o *check.Opinion) []byte {
	b = append(b, `{"type":"ec2rl","module":`...)
	b = appendString(b, o.Module)
	b = appendNamed(b, `,"ifname":`, o.Interface)
	b = appendNamed(b, `,"verdict":`, o.Verdict)
	switch {
	case o.Right.Missing != "":
		b = append(b, `,"right":null`...)
	case o.Right.Value:
		b = append(b, `,"right":true`...)
	default:
		b = append(b, `,"right":false`...)
	}
	b = append(b, `,"message":`...)
	b = appendString(b, o.Message)
	return append(b, "}\n"...)
}

// appendNamed appends a key and a string, or null for an empty one.
func appendNamed(b []byte, key, value string) []byte {
	b = append(b, key...)
	if value == "" {
		return append(b, "null"...)
	}
	return appendString(b, value)
}
