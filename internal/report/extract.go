package report

import (
	"xentrace/internal/event"
	"xentrace/internal/output"
)

const (
	packetsPerKind = 3
	flowEvents     = 12
	noticesShown   = 5
	extractBytes   = 24 << 10
)

// An extract is the JSON of a few events: the first packets of each verdict and cause, and
// the first changes of connections, and the first
// notices.
type extract struct {
	lines   [][]byte
	size    int
	kinds   map[[3]int]int
	flows   int
	notices int
}

func (x *extract) add(e event.Event) {
	if !x.wants(e) {
		return
	}
	line := output.JSON{}.Append(nil, e)
	if x.size+len(line) > extractBytes {
		return
	}
	x.size += len(line)
	x.lines = append(x.lines, line)
}

func (x *extract) wants(e event.Event) bool {
	switch e := e.(type) {
	case *event.Packet:
		if x.kinds == nil {
			x.kinds = make(map[[3]int]int)
		}
		kind := [3]int{int(e.Verdict), int(e.Cause), int(e.Layer)}
		if x.kinds[kind]++; x.kinds[kind] <= packetsPerKind {
			return true
		}
	case *event.FlowEvent:
		if x.flows++; x.flows <= flowEvents {
			return true
		}
	case *event.Notice:
		if x.notices++; x.notices <= noticesShown {
			return true
		}
	default:
		return false
	}
	return false
}
