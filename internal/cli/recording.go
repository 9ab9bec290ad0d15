package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/kernel"
	"xentrace/internal/record"
	"xentrace/internal/session"
	"xentrace/internal/trace"
)

// recordInterval is how often a recording holds what was counted.
const recordInterval = 10 * time.Second

// A recording is where a traced run is recorded, besides what it shows.
type recording struct {
	path string // of -w
	dir  string // of record; its limits follow
	record.Limits

	snap int // bytes of each packet
	rate int // records per second; 0: no limit
}

func (r *recording) flags(c *cobra.Command) {
	path(c, &r.path, "write", "w", "also record to this new file (.zst: compressed)")
}

// limitFlags bound a recording that lasts.
func (r *recording) limitFlags(c *cobra.Command) {
	parsed(c, &r.MaxBytes, "max-size", "", "BYTES", "256MiB", "limit of everything in the directory", parseMaxSize)
	parsed(c, &r.MaxAge, "max-age", "", "TIME", "14d", "delete segments older than this; 0: never", parseAge)
	parsed(c, &r.rate, "rate", "", "N", "1000", "records per second at most; the rest is counted; 0: no limit", parseRate)
	parsed(c, &r.snap, "snap", "", "BYTES", "128", snapUsage, parseSnap)
}

// open opens the recorder; nil where nothing is recorded. A directory is the user's that the
// command becomes.
func (r *recording) open(user kernel.User, notify func(event.Notice)) (*record.Recorder, error) {
	var store record.Store
	var err error
	switch {
	case r.dir != "":
		store, err = record.OpenDirectory(r.dir, r.Limits, user.UID, user.GID)
	case r.path != "":
		store, err = record.Create(r.path)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, ofPath(err)
	}
	return record.NewRecorder(store, notify), nil
}

// begin writes the first line of the recording: this machine, and what check finds. It needs
// the privileges that are dropped later.
func (t *traced) begin(ctx context.Context) error {
	if t.recorder == nil {
		return nil
	}
	start, err := t.describe(ctx)
	if err == nil {
		t.recorder.Begin(start)
	}
	return err
}

// describe returns the first event of a recording.
func (t *traced) describe(ctx context.Context) (*event.Start, error) {
	totals, err := t.tracer.Totals(ctx)
	if err != nil {
		return nil, err
	}
	start := facts.Start(totals.Interfaces, record.Uptime())
	v, err := versionOf(t.in.Build)
	if err != nil {
		return nil, err
	}
	if start.Version = v.Version; v.Commit != nil {
		start.Commit = *v.Commit
	}
	if start.Check, err = t.findings(ctx, &totals); err != nil {
		t.lacksFindings(ctx, err)
	}
	for i := range start.Interfaces {
		start.Interfaces[i].Linearizes = linearizes(start.Check, start.Interfaces[i].Driver)
	}
	return start, nil
}

// findings are those of xentrace check, as it found them first. What the tracer knows is not read
// again: the kernel's types and symbols take most of the time of a start.
func (t *traced) findings(ctx context.Context, totals *event.Totals) ([]event.Finding, error) {
	if t.in.found != nil {
		return t.in.found, nil
	}
	source, err := t.in.Machine()
	if err != nil {
		return nil, err
	}
	if totals.AnyNetfront() { // else the driver's code is not read
		source.LiveCode, source.SharedInfo = t.tracer.DriverCode, t.tracer.SharedInfo
	}
	return t.judge(ctx, source, totals)
}

// check runs xentrace check.
func (t *traced) check(ctx context.Context) ([]event.Finding, error) {
	source, err := t.in.Machine()
	if err != nil {
		return nil, err
	}
	totals, err := t.tracer.Totals(ctx)
	if err != nil {
		return nil, err
	}
	return t.judge(ctx, source, &totals)
}

func (t *traced) judge(ctx context.Context, source check.Source, totals *event.Totals) ([]event.Finding, error) {
	names, err := t.present(totals)
	if err != nil {
		return nil, err
	}
	machine, err := check.Read(ctx, source, names)
	if err != nil {
		return nil, err
	}
	return check.Judge(machine), nil
}

// present returns the named interfaces that are there, as they are called now; none means all of
// xen-netfront.
func (t *traced) present(totals *event.Totals) (names []string, err error) {
	if len(t.in.interfaces) == 0 {
		return nil, nil
	}
	for i := range totals.Interfaces {
		if n := &totals.Interfaces[i]; n.Index != 0 && !n.Gone {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		err = errors.New("no interface is there")
	}
	return names, err
}

// lacksFindings reports why check found nothing, unless it was interrupted.
func (t *traced) lacksFindings(ctx context.Context, err error) {
	if ctx.Err() == nil {
		t.console.Say(fmt.Sprintf("the findings of check are missing: %v", err))
	}
}

// linearizes is what check found about the driver; nil if that is not known.
func linearizes(findings []event.Finding, driver string) *bool {
	if driver != "xen-netfront" {
		return nil
	}
	for _, f := range findings {
		if known := f.Status == event.OK || f.Status == event.Fail; f.ID == check.LinearizeCode && known {
			yes := f.Status == event.OK
			return &yes
		}
	}
	return nil
}

// recorded adds the recorder to the sinks of a run.
func (t *traced) recorded(o *session.Options) {
	if t.recorder == nil {
		return
	}
	o.Interval = recordInterval
	if o.Sink == nil {
		o.Sink = t.recorder
		return
	}
	o.Sink = session.Tee(o.Sink, t.recorder)
}

type recordOptions struct {
	watchOptions
}

// defaultDir is where record writes unless --dir names another place.
const defaultDir = "/var/log/xentrace"

func (a *app) recordCommand() *cobra.Command {
	o := &recordOptions{watchOptions{tracing: a.newTracing()}}
	// The directory is its user's, who also makes it again should it be removed.
	o.user = kernel.User{}
	o.recording = recording{dir: defaultDir, Limits: record.Limits{MaxBytes: 256 << 20, MaxAge: 14 * 24 * time.Hour}, rate: 1000, snap: 128}
	c := &cobra.Command{
		Use: "record [flags] [EXPRESSION]", Short: "Record to a directory of bounded size, to look at later",
		Long: `Writes what xentrace watch would show, and counts every 10 s, to segments in a
directory: the flight recorder. The oldest segments are deleted for new ones.
If the disk is full or gone, recording pauses and resumes by itself.`,
		Args: expressionArgument(&o.filter), ValidArgsFunction: cobra.NoFileCompletions,
		Example: `  xentrace record                                    to ` + defaultDir + `
  xentrace record --dir /srv/x --max-size 1GiB
  xentrace replay --since 10m ` + defaultDir + `      what happened`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.chooseSnap(c); err != nil {
				return err
			}
			return o.run(c.Context())
		},
	}
	path(c, &o.recording.dir, "dir", "", "directory of the recording; made if missing")
	o.recording.limitFlags(c)
	o.tracing.traceFlags(c)
	toggle(c, &o.verbose, "verbose", "v", "more details on stderr")
	readyFlag(c, &o.readyFile)
	o.eventFlags(c)
	return c
}

func (o *recordOptions) run(ctx context.Context) error {
	if err := o.validate(); err != nil {
		return err
	}
	var options session.Options
	t, err := attach(ctx, &o.tracing, true, func(t *traced) { options = t.followed(&o.filter) })
	if t == nil {
		return err
	}
	t.console.Say("recording to " + o.recording.dir)
	result, err := t.record(ctx, options)
	if err == nil {
		t.console.Say(fmt.Sprintf("%d packets counted, %d events recorded in %s, %d suppressed by --rate",
			result.Totals.Sum().Packets, result.Totals.Events, o.recording.dir, result.Totals.SuppressedRecords()))
	}
	return err
}

// record leads what the tracer reads to the recording alone, until the end.
func (t *traced) record(ctx context.Context, options session.Options) (session.Result, error) {
	defer t.cancel()
	options.Source, options.Duration, options.Count, options.Warn = session.Live(t.tracer), t.in.duration, t.in.count, t.console.Say
	t.recorded(&options)
	return session.Run(ctx, options)
}

const snapUsage = "first bytes of each packet to record, up to 256"

func parseSnap(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > trace.MaxSnap {
		return 0, fmt.Errorf("not a number from 0 to %d", trace.MaxSnap)
	}
	return n, nil
}

func parseRate(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return 0, errors.New("not a number of records such as 1000; 0: no limit")
	}
	return n, nil
}

// parseMaxSize reads a size in bytes, KiB, MiB or GiB.
func parseMaxSize(text string) (int64, error) {
	number, unit := text, int64(1)
	for suffix, bytes := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = rest, bytes
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil || n > math.MaxInt64/unit:
		return 0, errors.New("not a size such as 512MiB or 1GiB")
	case n*unit < record.MinBytes:
		return 0, errors.New("must be at least 1MiB")
	}
	return n * unit, nil
}

// parseAge reads a duration that may be in days: 14d.
func parseAge(text string) (time.Duration, error) {
	days, isDays := strings.CutSuffix(text, "d")
	if !isDays {
		return parseDuration(text)
	}
	n, err := strconv.Atoi(days)
	if err != nil || n < 0 || n > math.MaxInt64/int(24*time.Hour) {
		return 0, errors.New("not a duration such as 12h or 14d")
	}
	return time.Duration(n) * 24 * time.Hour, nil
}
