package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/flow"
	"xentrace/internal/session"
	"xentrace/internal/trace"
)

// errNotAppeared: --duration was over before an interface was there.
var errNotAppeared = fmt.Errorf("%w: no interface appeared", trace.ErrCannotRun)

// A wait for an interface counts against --duration where that was given. It begins with
// the notice that none is there.
type wait struct {
	limit  time.Duration // 0: none
	giveUp func()
	began  time.Time // zero: there was no wait
	timer  *time.Timer
}

// notify passes notices on.
func (w *wait) notify(to func(event.Notice)) func(event.Notice) {
	return func(n event.Notice) {
		if n.ID == event.NoticeWaiting && w.began.IsZero() {
			w.began = time.Now()
			if w.limit > 0 {
				w.timer = time.AfterFunc(w.limit, w.giveUp)
			}
		}
		to(n)
	}
}

// end ends the wait, once. It returns an error if the time was up before.
func (w *wait) end() error {
	if w.timer == nil || w.timer.Stop() {
		return nil
	}
	return fmt.Errorf("%w within --duration %s", errNotAppeared, w.limit)
}

// rest is what is left of a duration.
func (w *wait) rest(duration time.Duration) time.Duration {
	if w.began.IsZero() || w.limit == 0 {
		return duration
	}
	return max(duration-time.Since(w.began), 1)
}

// neverAttached ends a run that waited in vain or was interrupted before: in JSON with the
// summary that ends every run. err is why attach returned nothing.
func (t *tracing) neverAttached(ctx context.Context, histogram bool, err error) error {
	if !t.json() || err != nil && !errors.Is(err, errNotAppeared) {
		return err
	}
	options := session.Options{Source: noSource{}, Sink: (&traced{in: t, console: t.console()}).stream(histogram)}
	if !histogram {
		options.Flows = flow.NewTable(0, nil)
	}
	_, written := session.Run(ctx, options)
	return errors.Join(err, written)
}

type noSource struct{}

func (noSource) Next(context.Context) (event.Event, error) { return nil, io.EOF }
func (noSource) Totals(context.Context) (event.Totals, error) {
	const why = "nothing was attached"
	return event.Totals{Time: time.Now(), Missing: map[string]string{"recursion": why, "missed": why}}, nil
}
func (noSource) Stop(context.Context) error { return nil }
func (noSource) Close() error               { return nil }
