package live

import "slices"

type cell struct {
	text string
	tone tone
}

// A column of a table. Where there is no space for all of them, elastic ones are cut,
// and those that are worth least are left out.
type column struct {
	name    string
	toRight bool // numbers
	worth   int
	least   int                                                // columns that an elastic one is worth showing with; 0 for one that is not
	shorten func(text string, columns int, more string) string // nil for cut
	cells   []cell
}

const columnGap = 2

// table returns the names of the columns and the rows, none wider than columns.
func table(all []column, rows, columns int, more string) (head line, body []line) {
	widths := measure(all)
	for len(all) > 1 && total(leastOf(all, widths)) > columns {
		worst := cheapest(all, func(i int) bool { return all[i].worth < essential })
		if worst < 0 {
			break
		}
		all = append(all[:worst:worst], all[worst+1:]...)
		widths = measure(all)
	}
	shrink(all, widths, columns)
	for i, c := range all {
		head = appendCell(head, cell{c.name, heading}, c, widths[i], i > 0, more)
	}
	for row := range rows {
		var l line
		for i, c := range all {
			l = appendCell(l, c.cells[row], c, widths[i], i > 0, more)
		}
		body = append(body, cutLine(l, columns, more))
	}
	return cutLine(head, columns, more), body
}

const essential = 100

// cheapest is the column that is worth least of those that may be taken from; -1 if there
// is none.
func cheapest(all []column, may func(i int) bool) int {
	worst := -1
	for i, c := range all {
		if may(i) && (worst < 0 || c.worth < all[worst].worth) {
			worst = i
		}
	}
	return worst
}

func measure(all []column) []int {
	widths := make([]int, len(all))
	for i, c := range all {
		widths[i] = width(c.name)
		for _, cell := range c.cells {
			widths[i] = max(widths[i], width(cell.text))
		}
	}
	return widths
}

func leastOf(all []column, widths []int) []int {
	least := slices.Clone(widths)
	for i, c := range all {
		if c.least > 0 {
			least[i] = min(widths[i], c.least)
		}
	}
	return least
}

func total(widths []int) int {
	sum := columnGap * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	return sum
}

// shrink narrows elastic columns, the least important first, until the table
// fits, or none can give any.
func shrink(all []column, widths []int, columns int) {
	for total(widths) > columns {
		worst := cheapest(all, func(i int) bool { return all[i].least > 0 && widths[i] > all[i].least })
		if worst < 0 {
			return
		}
		widths[worst]--
	}
}

func appendCell(l line, entry cell, c column, columns int, gap bool, more string) line {
	if gap {
		l = append(l, span{spaces(columnGap), plain})
	}
	shorten := cut
	if c.shorten != nil {
		shorten = c.shorten
	}
	text := shorten(entry.text, columns, more)
	if c.toRight {
		return append(l, span{right(text, columns), entry.tone})
	}
	return append(l, span{left(text, columns), entry.tone})
}
