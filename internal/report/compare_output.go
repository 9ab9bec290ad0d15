package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/output"
)

// AppendText appends the comparison as a table for people.
func (c *Comparison) AppendText(b []byte) []byte {
	b = appendSide(b, "A", &c.A)
	b = appendSide(b, "B", &c.B)
	b = append(appendRows(append(b, '\n'), "", c.Rows), '\n')
	b = append(appendRows(b, "slots, "+perMillion, c.Slots), '\n')
	b = appendFacts(b, "machines differ in", c.Facts)
	b = appendFacts(b, "findings of check differ", c.Checks)
	if c.Differing() > 0 {
		b = append(b, "* "...)
	}
	return append(append(b, c.Sentence()...), '\n')
}

func appendSide(b []byte, letter string, s *Side) []byte {
	b = fmt.Appendf(b, "%s  %s: ", letter, s.Name)
	if s.Host != "" {
		b = fmt.Appendf(b, "%s, ", s.Host)
	}
	if s.From.IsZero() {
		return append(b, "no event\n"...)
	}
	return fmt.Appendf(b, "from %s UTC, %s counted, %s\n", stamp(s.From), lasted(s.Duration), plural(s.Packets, "packet"))
}

// The columns of a table of text.
const (
	nameColumn  = 48
	countColumn = 12
	ratioColumn = 8
)

func appendRows(b []byte, heading string, rows []Row) []byte {
	b = fmt.Appendf(b, "%-*s%*s%*s%*s  %s\n", nameColumn, heading, countColumn, "A", countColumn, "B", ratioColumn, "B/A", "95 % interval")
	for i := range rows {
		r := &rows[i]
		name := r.Name
		if heading == "" {
			name += ", " + r.Unit
		}
		line := fmt.Sprintf("%-*s%*s%*s%*s  %s", nameColumn, name, countColumn, rateText(r.A), countColumn, rateText(r.B), ratioColumn, ratioText(r.Ratio), r.interval())
		if r.Differs {
			line = fmt.Sprintf("%-*s *", nameColumn+2*countColumn+ratioColumn+2+len("95 % interval"), line)
		}
		b = append(append(b, strings.TrimRight(line, " ")...), '\n')
	}
	return b
}

func appendFacts(b []byte, heading string, facts []Fact) []byte {
	if len(facts) == 0 {
		return b
	}
	b = append(append(b, heading...), '\n')
	for _, f := range facts {
		b = fmt.Appendf(b, "  %-34s %s -> %s\n", f.Name, orNone(f.A), orNone(f.B))
	}
	return append(b, '\n')
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Sentence is how many rates differ, or why nothing can be compared.
func (c *Comparison) Sentence() string {
	for _, s := range []*Side{&c.A, &c.B} {
		if why := s.Empty(); why != "" {
			return why + "."
		}
	}
	switch n := c.Differing(); n {
	case 0:
		return "Nothing differs by more than noise."
	case 1:
		return "1 rate differs by more than noise."
	default:
		return fmt.Sprintf("%d rates differ by more than noise.", n)
	}
}

// rateText writes a rate; "-" where nothing could happen.
func rateText(c Count) string {
	switch {
	case c.Exposure <= 0:
		return "-"
	case c.Rate == 0:
		return "0"
	case c.Rate >= 100:
		return number(uint64(c.Rate + 0.5))
	}
	return strconv.FormatFloat(c.Rate, 'g', 3, 64)
}

func ratioText(r float64) string {
	switch {
	case math.IsNaN(r):
		return "-"
	case math.IsInf(r, 1):
		return "new"
	case r == 0:
		return "gone"
	}
	return strconv.FormatFloat(r, 'g', 3, 64)
}

func (r *Row) interval() string {
	if math.IsNaN(r.Low) {
		return ""
	}
	high := "more"
	if !math.IsInf(r.High, 1) {
		high = strconv.FormatFloat(r.High, 'g', 3, 64)
	}
	return strconv.FormatFloat(r.Low, 'g', 3, 64) + " to " + high
}

type sideObject struct {
	Path       string  `json:"path"`
	Hostname   string  `json:"hostname"`
	From       *string `json:"from"`
	To         *string `json:"to"`
	DurationMS int64   `json:"duration_ms"`
	Packets    uint64  `json:"packets"`
}

type countObject struct {
	Count uint64   `json:"count"`
	Rate  *float64 `json:"rate"`
}

type rowObject struct {
	Key     string      `json:"key"`
	Unit    string      `json:"unit"`
	A       countObject `json:"a"`
	B       countObject `json:"b"`
	Ratio   *float64    `json:"ratio"`
	Low     *float64    `json:"ratio_low"`
	High    *float64    `json:"ratio_high"`
	Differs bool        `json:"differs"`
}

type factObject struct {
	Name string  `json:"name"`
	A    *string `json:"a"`
	B    *string `json:"b"`
}

type comparisonObject struct {
	Type   string       `json:"type"`
	A      sideObject   `json:"a"`
	B      sideObject   `json:"b"`
	Rates  []rowObject  `json:"rates"`
	Slots  []rowObject  `json:"slots"`
	Facts  []factObject `json:"facts"`
	Checks []factObject `json:"checks"`
}

// AppendJSON appends the comparison as one line of type comparison.
func (c *Comparison) AppendJSON(b []byte) []byte {
	return output.AppendObject(b, comparisonObject{
		"comparison", sideOf(&c.A), sideOf(&c.B), rowsOf(c.Rows), rowsOf(c.Slots), factsOf(c.Facts), factsOf(c.Checks),
	})
}

func sideOf(s *Side) sideObject {
	return sideObject{s.Name, s.Host, timeOrNull(s.From), timeOrNull(s.To), s.Duration.Milliseconds(), s.Packets}
}

func timeOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format("2006-01-02T15:04:05.000000000Z07:00")
	return &text
}

func rowsOf(rows []Row) []rowObject {
	all := []rowObject{}
	for i := range rows {
		r := &rows[i]
		all = append(all, rowObject{r.Key, r.Unit, countOf(r.A), countOf(r.B), finite(r.Ratio), finite(r.Low), finite(r.High), r.Differs})
	}
	return all
}

func countOf(c Count) countObject {
	if c.Exposure <= 0 {
		return countObject{c.Events, nil}
	}
	return countObject{c.Events, &c.Rate}
}

// finite is null for what JSON has no number for.
func finite(f float64) *float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	return &f
}

func factsOf(facts []Fact) []factObject {
	all := []factObject{}
	for _, f := range facts {
		all = append(all, factObject{f.Name, orNull(f.A), orNull(f.B)})
	}
	return all
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// comparisonView is what the template is filled with.
type comparisonView struct {
	*Comparison
	Kind, Word, Headline string
	Sides                []sideView
	Tables               []comparisonTable
	Options              *Options
	Files                filesView
	Facts                []Fact // the first of them
	MoreFacts            string
}

type sideView struct{ Letter, Name, Host, Range, Length, Packets string }

type comparisonTable struct {
	ID, Name string
	Unit     bool
	Rows     []comparisonRow
}

type comparisonRow struct {
	Name, Unit, CountA, CountB, A, B, Ratio, Interval string
	Bars                                              [2]int // of 100
	Differs                                           bool
}

// Page makes a page of the comparison.
func (c *Comparison) Page(o Options) (*Page, error) {
	html, err := render("compare.html.tmpl", c.view(&o))
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return &Page{html}, nil
}

func (c *Comparison) view(o *Options) *comparisonView {
	v := &comparisonView{Comparison: c, Options: o, Sides: []sideView{viewOfSide("A", &c.A), viewOfSide("B", &c.B)}, Files: viewOfFiles(o.Files, mostSpans)}
	v.Facts = c.Facts[:min(len(c.Facts), mostSpans)]
	if more := len(c.Facts) - len(v.Facts); more > 0 {
		v.MoreFacts = plural(uint64(more), "more fact") + " not shown."
	}
	v.Kind, v.Word, v.Headline = c.headline()
	v.Tables = []comparisonTable{{"rates", "Rates", true, viewRows(c.Rows)}, {"slots", "Slots per packet, " + perMillion, false, viewRows(c.Slots)}}
	return v
}

// headline judges B by A: worse if more is lost or stalls, better if less.
func (c *Comparison) headline() (kind, word, headline string) {
	for _, s := range []*Side{&c.A, &c.B} {
		if why := s.Empty(); why != "" {
			return "empty", "EMPTY", "Nothing to compare"
		}
	}
	better, worse := 0, 0
	for i := range c.Rows {
		r := &c.Rows[i]
		if bad := r.Key == "dropped" || r.Key == "rejected" || r.Key == "elsewhere" || r.Key == "stalls"; !bad || !r.Differs {
			continue
		}
		if r.Ratio > 1 {
			worse++
		} else {
			better++
		}
	}
	switch {
	case worse > 0 && better > 0:
		return "warn", "MIXED", "B loses more in one way and less in another"
	case worse > 0:
		return "bad", "WORSE", "B loses more packets than A"
	case better > 0:
		return "good", "BETTER", "B loses fewer packets than A"
	}
	return "good", "SAME", "Losses and stalls do not differ by more than noise"
}

func viewOfSide(letter string, s *Side) sideView {
	v := sideView{Letter: letter, Name: s.Name, Host: s.Host, Length: lasted(s.Duration), Packets: plural(s.Packets, "packet")}
	if !s.From.IsZero() {
		v.Range = stamp(s.From) + " to " + stamp(s.To) + " UTC"
	}
	return v
}

func viewRows(rows []Row) (all []comparisonRow) {
	for i := range rows {
		r := &rows[i]
		v := comparisonRow{
			Name: r.Name, Unit: r.Unit, CountA: number(r.A.Events), CountB: number(r.B.Events), A: rateText(r.A), B: rateText(r.B),
			Ratio: ratioText(r.Ratio), Interval: r.interval(), Differs: r.Differs,
		}
		if most := max(r.A.Rate, r.B.Rate); most > 0 {
			v.Bars = [2]int{int(100 * r.A.Rate / most), int(100 * r.B.Rate / most)}
		}
		all = append(all, v)
	}
	return all
}
