package report

import (
	"fmt"
	"strconv"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

func number(n uint64) string { return output.Grouped(n) }

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(n) + " " + noun + "s"
}

// are is "1 connection is", "2 connections are", or without a noun "1 is".
func are(n uint64, noun string) string {
	words := number(n)
	if noun != "" {
		words = plural(n, noun)
	}
	if n == 1 {
		return words + " is"
	}
	return words + " are"
}

func were(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one + " was"
	}
	return number(n) + " " + many + " were"
}

// lasted writes a duration; what is shorter than 10 s in more detail.
func lasted(d time.Duration) string {
	if d > 0 && d < time.Second {
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	}
	if days := d / (24 * time.Hour); days >= 2 {
		return fmt.Sprintf("%d days %d h", days, int((d % (24 * time.Hour)).Hours()))
	}
	return output.Seconds(d)
}

// share is part of whole in percent, with two digits that count.
func share(part, whole uint64) string {
	percent := 100 * float64(part) / float64(whole)
	if percent >= 10 {
		return strconv.FormatFloat(percent, 'f', 0, 64) + " %"
	}
	return strconv.FormatFloat(percent, 'g', 2, 64) + " %"
}

const day = 24 * time.Hour

// clock writes a time as precisely as the length of the recording allows.
func (c *Collector) clock(t time.Time) string {
	return clockOf(t, c.last.Sub(c.first), c.first)
}

func clockOf(t time.Time, length time.Duration, first time.Time) string {
	t = t.UTC()
	layout := "15:04:05"
	if length < time.Minute {
		layout = "15:04:05.000"
	}
	if length >= day || t.YearDay() != first.UTC().YearDay() {
		layout = "Jan 2 15:04:05"
	}
	return t.Format(layout)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

func (c *connection) name() string { return output.Endpoints(c.Proto, c.Source, c.Destination) }

// ownerWords is " of nginx[812]", or nothing.
func ownerWords(p *event.Process) string {
	if p == nil {
		return ""
	}
	return " of " + ownerName(p)
}

func ownerName(p *event.Process) string {
	return fmt.Sprintf("%s[%d]", output.Escape(p.Comm), p.PID)
}

// clip shortens text that others control.
func clip(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most]) + "…"
}
