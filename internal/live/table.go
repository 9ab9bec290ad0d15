package live

// A cell is one entry of a table.
type cell struct {
	text string
	tone tone
}

// A column of a table. Where there is no room for all of them, those that are worth
// least are left out; after that elastic ones are cut.
type column struct {
	name    string
	toRight bool // numbers
	worth   int
	elastic bool
	cells   []cell
}

const columnGap = 2

// table returns the names of the columns and the rows, none wider than columns.
func table(all []column, rows, columns int, more string) (head line, body []line) {
	widths := measure(all)
	for len(all) > 1 && total(widths) > columns && dispensable(all) >= 0 {
		worst := dispensable(all)
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

// essential columns are cut rather than left out.
const essential = 100

// dispensable is the column that is worth least; -1 if all are essential.
func dispensable(all []column) int {
	worst := -1
	for i, c := range all {
		if c.worth < essential && (worst < 0 || c.worth < all[worst].worth) {
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

func total(widths []int) int {
	sum := columnGap * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	return sum
}

// shrink takes columns from elastic ones, the widest first, until the table fits.
func shrink(all []column, widths []int, columns int) {
	const least = 8
	for total(widths) > columns {
		widest := -1
		for i, c := range all {
			if c.elastic && widths[i] > least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func appendCell(l line, entry cell, c column, columns int, gap bool, more string) line {
	if gap {
		l = append(l, span{spaces(columnGap), plain})
	}
	text := cut(entry.text, columns, more)
	if c.toRight {
		return append(l, span{right(text, columns), entry.tone})
	}
	return append(l, span{left(text, columns), entry.tone})
}
