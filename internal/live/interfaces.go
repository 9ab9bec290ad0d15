package live

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

var (
	toneDropped    = toneOf(event.Dropped)
	toneLinearized = toneOf(event.Linearized)
	toneBounced    = toneOf(event.Bounced)
	toneOverLimit  = toneOf(event.OverLimit)
)

// toneOf is the tone of a verdict, as in lines.
func toneOf(v event.Verdict) tone { return tone{colour: output.VerdictColour(v)} }

// elsewhere reports whether drops outside the driver are counted.
func (m *model) elsewhere() bool { return m.latest.Totals.Drops == event.DropsAll }

// interfaceLines is a table of the interfaces, those that lost most first. It takes a
// sixth of the rows at most.
func (m *model) interfaceLines(columns, rows int) []line {
	all := slices.Clone(m.latest.Totals.Interfaces)
	slices.SortStableFunc(all, func(a, b event.InterfaceTotals) int {
		return -cmp.Or(cmp.Compare(a.Dropped+a.Elsewhere, b.Dropped+b.Elsewhere), cmp.Compare(a.OverLimit, b.OverLimit), cmp.Compare(a.Packets, b.Packets))
	})
	if len(all) == 0 {
		return []line{{{"no interface yet", plain}}}
	}
	most := max(rows/6, 2)
	shown := all
	if len(all) > most {
		shown = all[:most-1]
	}
	head, body := table(m.interfaceColumns(shown), len(shown), columns, m.more())
	lines := append([]line{head}, body...)
	if hidden := len(all) - len(shown); hidden > 0 {
		lines = append(lines, line{{fmt.Sprintf("%d more interfaces with no more drops than these", hidden), plain}})
	}
	return lines
}

func (m *model) interfaceColumns(all []event.InterfaceTotals) []column {
	columns := []column{
		{name: "INTERFACE", worth: essential, least: 9}, {name: "DRIVER", worth: essential, least: 8},
		{name: "BACKEND", worth: 2}, {name: "QUEUES", worth: 1, toRight: true},
		{name: "PACKETS", worth: 3, toRight: true}, {name: "PACKETS/S", worth: 5, toRight: true},
		{name: "DROPPED", worth: essential, toRight: true}, {name: "LINEARIZED", worth: 7, toRight: true},
		{name: "BOUNCED", worth: 4, toRight: true}, {name: "OVER_LIMIT", worth: 8, toRight: true}, {name: "TX_DROPPED", worth: essential, toRight: true},
	}
	for i := range all {
		for c, entry := range m.interfaceCells(&all[i]) {
			columns[c].cells = append(columns[c].cells, entry)
		}
	}
	return columns
}

// interfaceCells are in the order of the columns.
func (m *model) interfaceCells(t *event.InterfaceTotals) []cell {
	count := func(n uint64, colour tone) cell {
		if n == 0 {
			colour = plain
		}
		return cell{output.Grouped(n), colour}
	}
	ifname, ifnameTone := name(t.Name), heading
	if t.Gone {
		ifname, ifnameTone = ifname+" (gone)", plain
	}
	moved := cell{"?", plain}
	if t.TxDroppedDelta != nil {
		moved = count(*t.TxDroppedDelta, toneDropped)
	}
	return []cell{
		{ifname, ifnameTone}, {steady(output.DriverName(t)), plain}, {string(t.Backend), plain}, {strconv.Itoa(t.Queues), plain},
		count(t.Packets, plain), count(m.rates.packets(t.Device), plain),
		count(t.Dropped, toneDropped), count(t.Linearized, toneLinearized), count(t.Bounced, toneBounced),
		count(t.OverLimit, toneOverLimit), moved,
	}
}
