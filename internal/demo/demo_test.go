package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/rocket"
	"xentrace/internal/trace"
	"xentrace/test/need"
)

// totals are those of one interface.
func totals(packets, oneSlot, overLimit, events uint64) event.Totals {
	i := event.InterfaceTotals{Counts: event.Counts{Packets: packets, OverLimit: overLimit}}
	i.Slots[1], i.Slots[2], i.Slots[19] = oneSlot, packets-oneSlot-overLimit, overLimit
	return event.Totals{Interfaces: []event.InterfaceTotals{i}, Events: events}
}

func TestCompare(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(first, second *part)
		equal  bool
	}{
		{"equal", func(_, _ *part) {}, true},
		{"a record was lost, and counted as lost", func(first, _ *part) { first.totals.Events, first.totals.Lost.Ring = 11, 1 }, true},
		{"a record is missing", func(first, _ *part) { first.totals.Events = 11 }, false},
		{"one too few over the limit", func(first, _ *part) { first.totals.Interfaces[0].OverLimit = 11 }, false},
		{"one too many in the histogram", func(_, second *part) { second.totals.Interfaces[0].OverLimit = 61 }, false},
		{"a packet was not counted", func(_, second *part) { second.transmitted++ }, false},
		{"no interface in the totals", func(first, _ *part) { first.totals.Interfaces = nil }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := &part{sent: sent{12, 6, 6}, transmitted: 372, totals: totals(372, 240, 12, 12)}
			second := &part{sent: sent{60, 30, 30}, transmitted: 3100, totals: totals(3100, 2000, 60, 0)}
			test.change(first, second)
			var out bytes.Buffer
			d := &demonstration{Options: Options{Out: &out, Width: func() int { return 100 }}}
			err := d.compare(first, second)
			if (err == nil) != test.equal || strings.Contains(out.String(), "All counts are equal") != test.equal {
				t.Errorf("error %v, and it says:\n%s", err, out.String())
			}
		})
	}
}

func TestJudge(t *testing.T) {
	var out bytes.Buffer
	d := &demonstration{Options: Options{Out: &out, Width: func() int { return 40 }}}
	if err := d.judge(&part{totals: totals(372, 240, 12, 12)}); err != nil {
		t.Fatal(err)
	}
	said := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"drops each of the 12.", "linearizes each of the 12:", "132 of these 372 packets"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 41 {
			t.Errorf("line of %d columns: %q", len(line)-1, line)
		}
	}
}

// What the machine lacks is reported as such, what is broken is not.
func TestExplain(t *testing.T) {
	for _, test := range []struct {
		err    error
		cannot bool
		says   string
	}{
		{nil, false, ""},
		{fmt.Errorf("unshare: %w", unix.EPERM), true, kernel.HowToGain(os.Geteuid())},
		{fmt.Errorf("%w: no privilege: %w", trace.ErrCannotRun, unix.EPERM), true, "no privilege"},
		{fmt.Errorf("veth pair: %w", unix.EOPNOTSUPP), true, "module veth"},
		{fmt.Errorf("udp: %w", rocket.ErrSinglePages), true, "high_order_alloc_disable"},
		{errors.New("broken"), false, "broken"},
	} {
		got := explain(test.err)
		if !errors.Is(got, test.err) || errors.Is(got, trace.ErrCannotRun) != test.cannot || got != nil && !strings.Contains(got.Error(), test.says) {
			t.Errorf("%v is reported as %v", test.err, got)
		}
	}
}

// What ends a command ends the demo: a failure is reported, an interrupt is none.
func TestRunEnds(t *testing.T) {
	need.Root(t, "to make network namespaces")
	broken := errors.New("broken")
	for _, test := range []struct {
		name  string
		watch func(ctx context.Context, interrupt, attached func()) error
		err   error
		says  string
	}{
		{"before it attaches", func(context.Context, func(), func()) error { return broken }, broken, "$ xentrace watch"},
		{"while it watches", func(_ context.Context, _, attached func()) error { attached(); return broken }, broken, "$ xentrace watch"},
		{"interrupted", func(ctx context.Context, interrupt, attached func()) error {
			attached()
			interrupt()
			<-ctx.Done()
			return nil
		}, nil, "Interrupted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			var out bytes.Buffer
			err := Run(ctx, Options{
				Out: &out, Width: func() int { return 80 },
				Watch: func(ctx context.Context, ifname string, attached func()) (event.Totals, error) {
					if ifname != nearName {
						t.Errorf("interface %s", ifname)
					}
					return event.Totals{}, test.watch(ctx, interrupt, attached)
				},
				Hist: func(context.Context, string, func()) (event.Totals, error) {
					t.Error("it continues with the histogram")
					return event.Totals{}, nil
				},
			})
			if !errors.Is(err, test.err) || err != nil && err.Error() != "broken" || !strings.Contains(out.String(), test.says) {
				t.Errorf("error %v, want %v, and it says:\n%s", err, test.err, out.String())
			}
		})
	}
}
