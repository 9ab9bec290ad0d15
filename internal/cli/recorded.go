package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/record"
	"xentrace/internal/redact"
	"xentrace/internal/report"
	"xentrace/internal/session"
)

// A recorded is the recordings that a page or a comparison is made of.
type recorded struct {
	*app
	command      string // that makes the page, as a shell accepts it
	since, until record.Bound
	redact       bool
}

func (r *recorded) flags(c *cobra.Command) {
	parsed(c, &r.since, "since", "", "TIME", "", "start at this time, or this long before the end (10h)", parseMoment)
	parsed(c, &r.until, "until", "", "TIME", "", "stop at this time, or this long before the end", parseMoment)
	toggle(c, &r.redact, "redact", "", "replace addresses and names consistently")
}

// momentLayouts are those of a time of --since and --until; without a zone it is local.
var momentLayouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"}

// parseMoment reads a time, or a duration before the end of the recording.
func parseMoment(text string) (record.Bound, error) {
	if d, err := parseAge(text); err == nil && d > 0 {
		return record.Bound{Before: d}, nil
	}
	for _, layout := range momentLayouts {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return record.Bound{At: at}, nil
		}
	}
	return record.Bound{}, errors.New("not a time such as 2026-11-27T02:00:00Z, nor a duration before the end such as 10h or 2d")
}

// mostDamage is how many damaged parts a page lists.
const mostDamage = 10

// collect reads recordings to their end. What it could not read is in the Damage of the
// options.
func (r *recorded) collect(ctx context.Context, redactor *redact.Redactor, paths ...string) (*report.Collector, report.Options, error) {
	o := r.options()
	if n := len(paths); n > maxRecordings {
		return nil, o, usageError{fmt.Errorf("%d paths: at most %d", n, maxRecordings)}
	}
	damaged := 0
	source, err := record.Open(ctx, paths, record.ReadOptions{Since: r.since, Until: r.until, Hash: true, Damaged: func(d record.Damage) {
		if damaged++; damaged <= mostDamage {
			o.Damage = append(o.Damage, "Not readable: "+r.shown(d.Path, fmt.Sprintf("%s: at byte %d", d.Path, d.Offset))+": "+d.Reason+".")
		}
	}})
	if err != nil {
		return nil, o, ofPath(err)
	}
	collector := report.NewCollector()
	_, err = session.Run(ctx, session.Options{
		Source: source, Sink: redacting(collector, redactor),
		Summarize: func(*event.Totals) *event.Summary {
			summary := *source.Summary()
			explainRecorded(&summary, source.Unfinished())
			return &summary
		},
	})
	for _, run := range unfinishedSentences(source.Unfinished(), time.UTC) {
		o.Unfinished = append(o.Unfinished, strings.ToUpper(run[:1])+run[1:]+".")
	}
	if more := damaged - mostDamage; more > 0 {
		o.Damage = append(o.Damage, fmt.Sprintf("%d more parts are not readable.", more))
	}
	if err == nil {
		err = ctx.Err()
	}
	if from, to, empty := source.Covered(); err == nil && empty && !from.IsZero() {
		err = usageError{errors.New(nothingInRange(from, to, time.Local))}
	}
	o.Files = r.files(source)
	return collector, o, err
}

// nothingInRange is why --since and --until leave nothing.
func nothingInRange(from, to time.Time, zone *time.Location) string {
	const layout = "2006-01-02 15:04:05"
	return fmt.Sprintf("nothing was recorded in this range; the recording covers %s to %s", from.In(zone).Format(layout), to.In(zone).Format(layout))
}

func (r *recorded) options() report.Options {
	return report.Options{Redacted: r.redact, Commands: []string{r.command}, Version: r.Build.Version}
}

// setCommand notes the command line, for the page; with --redact without what names files.
func (r *recorded) setCommand(c *cobra.Command, paths []string) {
	words := []string{"xentrace", c.Name()}
	for _, path := range paths {
		words = append(words, r.hidden(path))
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand
		}
		words = append(words, name)
		if f.NoOptDefVal == "" {
			words = append(words, r.hidden(f.Value.String()))
		}
	})
	r.command = strings.Join(words, " ")
}

func (r *recorded) hidden(word string) string {
	if _, err := parseMoment(word); r.redact && err != nil {
		return "..."
	}
	return quoted(word)
}

// quoted is an argument as a shell accepts it.
func quoted(a string) string {
	plain := func(c rune) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("-_./:=+,%@", c)
	}
	if a != "" && strings.IndexFunc(a, func(c rune) bool { return !plain(c) }) < 0 {
		return a
	}
	return "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
}

// shown is text with a path in it, or with --redact "recording".
func (r *recorded) shown(path, text string) string {
	if r.redact {
		return strings.ReplaceAll(text, path, "recording")
	}
	return text
}

// files are those that were read.
func (r *recorded) files(source *record.Source) (all []report.File) {
	for i, f := range source.Files() {
		if r.redact {
			f.Path = fmt.Sprintf("recording %d", i+1)
		}
		all = append(all, report.File(f))
	}
	return all
}

// redacting puts a redactor, if there is one, before a sink.
func redacting(sink session.Sink, redactor *redact.Redactor) session.Sink {
	if redactor == nil {
		return sink
	}
	return redactedSink{sink, redactor}
}

type redactedSink struct {
	session.Sink
	redactor *redact.Redactor
}

func (s redactedSink) Emit(e event.Event) error {
	if e = s.redactor.Event(e); e == nil {
		return nil
	}
	return s.Sink.Emit(e)
}

func (r *recorded) redactor() *redact.Redactor {
	if !r.redact {
		return nil
	}
	return redact.New()
}

// A pageFile is where a page is written when it is complete: a file that appears under its
// name then, a file that is written in place, or standard output.
type pageFile struct {
	path   string
	file   *os.File  // nil for standard output
	rename bool      // file is a temporary one
	fresh  bool      // file was not there before
	stdout io.Writer // nil for a file
}

// createPage opens a page that only its owner may read. inPlace is for a process that can
// rename no file later, since it is confined by then. The path "-" is standard output.
func (r *recorded) createPage(path string, inPlace bool) (*pageFile, error) {
	if path == "-" {
		return &pageFile{path: "standard output", stdout: r.stdout()}, nil
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, usageError{fmt.Errorf("--write %s: not a regular file", path)}
	}
	if err == nil && info.Size() > 0 && !isPage(path) {
		return nil, usageError{fmt.Errorf("--write %s: exists and is not an HTML page; choose another name, or remove it", path)}
	}
	p := &pageFile{path: path, rename: !inPlace, fresh: err != nil}
	if inPlace {
		p.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	} else {
		p.file, err = os.CreateTemp(filepath.Dir(path), ".xentrace-*.html")
	}
	if err != nil {
		if failure := (*fs.PathError)(nil); errors.As(err, &failure) {
			err = failure.Err // its path may be that of the temporary file
		}
		return nil, ofPath(fmt.Errorf("--write %s: %w", path, err))
	}
	return p, nil
}

// isPage reports whether a file begins as a page does: a new page may replace it, and replaces
// neither a recording nor anything else.
func isPage(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // only read from
	begins := make([]byte, len(report.Begins))
	_, err = io.ReadFull(file, begins)
	return err == nil && strings.EqualFold(string(begins), report.Begins)
}

// finish writes the page.
func (p *pageFile) finish(page *report.Page) error {
	if p.stdout != nil {
		_, err := page.WriteTo(p.stdout)
		return err
	}
	_, err := page.WriteTo(p.file)
	err = errors.Join(err, p.file.Sync())
	if err == nil && p.rename {
		err = os.Rename(p.file.Name(), p.path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", p.path, err)
	}
	p.rename, p.fresh = false, false
	return nil
}

// discard closes the file, and removes it unless it is finished.
func (p *pageFile) discard() {
	if p.file == nil {
		return
	}
	_ = p.file.Close()
	if p.rename || p.fresh {
		_ = os.Remove(p.file.Name()) // a confined process cannot: an empty file is left
	}
}
