package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/congestion"
	"xentrace/internal/event"
	"xentrace/internal/exporter/feed"
	"xentrace/internal/kernel"
	"xentrace/internal/record"
	"xentrace/internal/session"
	"xentrace/internal/trace"
)

// An Exporter serves metrics over HTTP. It is given notices and events as a sink.
type Exporter interface {
	session.Sink
	// Addresses returns where it listens.
	Addresses() []string
	// Start begins to serve, without counts.
	Start()
	// Attached has counts read from a source, after privileges were dropped.
	Attached(context.Context, feed.Source) error
	// Failed is closed when it cannot serve any more: Close returns why.
	Failed() <-chan struct{}
}

// defaultListen is where xentrace-exporter listens.
const defaultListen = "127.0.0.1:10118"

type exporterOptions struct {
	tracing
	serve      feed.Options
	congestion bool
}

// exporterRoot is the command line of xentrace-exporter.
func (a *app) exporterRoot() *cobra.Command {
	o := &exporterOptions{tracing: a.newTracing()}
	o.wait, o.serves = true, true
	o.recording = recording{Limits: record.Limits{MaxBytes: 256 << 20, MaxAge: 14 * 24 * time.Hour}, rate: 1000, snap: 128}
	var version bool
	root := &cobra.Command{
		Use: "xentrace-exporter [flags]", Short: "Serve what xen-netfront does to packets as Prometheus metrics",
		Long: `Counts what xen-netfront does to packets and serves it as Prometheus metrics.
Waits for an interface if none is there. SIGTERM ends it.`,
		Args: none,
		Example: `  xentrace-exporter                          every Xen interface
  xentrace-exporter -i eth0 --record /var/lib/xentrace/recording
  xentrace-exporter --web.listen-address :10118 --web.config.file web.yml`,
		RunE: func(c *cobra.Command, _ []string) error {
			if version {
				return a.printVersion("text")
			}
			if o.recording.dir != "" && !c.Flags().Changed("user") { // the directory is its user's
				o.user = kernel.User{UID: os.Geteuid(), GID: os.Getegid()}
			}
			return o.run(c.Context())
		},
	}
	o.serveFlags(root)
	o.countFlags(root)
	o.recordFlags(root)
	readyFlag(root, &o.readyFile)
	userFlag(root, &o.user)
	toggle(root, &o.verbose, "verbose", "v", "more details on stderr")
	toggle(root, &version, "version", "", "print the version")
	for _, c := range []*cobra.Command{a.versionCommand(), a.completionCommand(), a.manCommand()} {
		c.Hidden = true
		root.AddCommand(c)
	}
	a.finish(root)
	return root
}

func (o *exporterOptions) serveFlags(c *cobra.Command) {
	list(c, &o.serve.Listen, "web.listen-address", "", "ADDR", "address to listen on; default "+defaultListen, cobra.NoFileCompletions, parseAddress)
	path(c, &o.serve.WebConfig, "web.config.file", "", "TLS and basic auth (exporter-toolkit format)")
	toggle(c, &o.serve.Systemd, "web.systemd-socket", "", "listen on sockets from systemd instead")
}

func (o *exporterOptions) countFlags(c *cobra.Command) {
	interfaceFlag(c, &o.interfaces, "interface in this network namespace; without it, every xen-netfront interface")
	toggle(c, &o.wait, "wait", "", "wait for an interface; --wait=false: fail if there is none")
	c.Flags().Lookup("wait").DefValue = "true"
	o.backendFlag(c)
	word(c, &o.drops, "drops", "", "WHICH", "drops to count: driver, all (also outside the driver)", string(event.DropsDriver), string(event.DropsAll))
	toggle(c, &o.rejected, "rejected", "", "also count packets that the backend rejected")
	toggle(c, &o.congestion, "congestion", "", "also measure ring occupancy, TX latency and accepts")
}

func (o *exporterOptions) recordFlags(c *cobra.Command) {
	path(c, &o.recording.dir, "record", "", "also record to this directory")
	o.recording.limitFlags(c)
}

// maxWebConfig bounds what every request reads.
const maxWebConfig = 1 << 20

// parseAddress accepts HOST:PORT, either of which may be empty or a name.
func parseAddress(text string) (string, error) {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", errors.New("not an address such as 127.0.0.1:10118 or :10118")
	}
	if n, err := strconv.Atoi(port); n < 0 || n > math.MaxUint16 || errors.Is(err, strconv.ErrRange) {
		return "", errors.New("port: not a number from 0 to 65535")
	}
	return text, nil
}

func (o *exporterOptions) run(ctx context.Context) error {
	if err := o.prepare(); err != nil {
		return err
	}
	if info, err := os.Stat(o.serve.WebConfig); err == nil {
		switch {
		case !info.Mode().IsRegular():
			return usageError{fmt.Errorf("--web.config.file %s: not a regular file", o.serve.WebConfig)}
		case info.Size() > maxWebConfig:
			return usageError{fmt.Errorf("--web.config.file %s: over %d MiB", o.serve.WebConfig, maxWebConfig>>20)}
		}
	}
	exporter, err := o.Export(ctx, o.serve)
	if err != nil {
		return fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
	}
	o.notices = exporter
	exporter.Start()
	o.console().Say("listening on " + strings.Join(exporter.Addresses(), ", "))
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-exporter.Failed():
			o.interrupt()
		case <-ended:
		}
	}()
	return errors.Join(o.export(ctx, exporter), exporter.Close())
}

// prepare completes what is served.
func (o *exporterOptions) prepare() error {
	if o.serve.Systemd && len(o.serve.Listen) > 0 {
		return usageError{errors.New("--web.systemd-socket and --web.listen-address exclude each other")}
	}
	if len(o.serve.Listen) == 0 {
		o.serve.Listen = []string{defaultListen}
	}
	if o.serve.WebConfig != "" {
		absolute, err := filepath.Abs(o.serve.WebConfig)
		if err != nil {
			return err
		}
		o.serve.WebConfig, o.reads = absolute, []string{filepath.Dir(absolute)}
	}
	v, err := versionOf(o.Build)
	if err != nil {
		return err
	}
	if o.serve.Version = v.Version; v.Commit != nil {
		o.serve.Commit = *v.Commit
	}
	o.serve.Drops, o.serve.Rejected, o.serve.Congestion = event.Drops(o.drops), o.rejected, o.congestion
	o.serve.Recording = o.recording.dir != ""
	return nil
}

// export counts and serves until the end.
func (o *exporterOptions) export(ctx context.Context, exporter Exporter) error {
	var options session.Options
	var meter Meter
	var failed error
	t, err := attach(ctx, &o.tracing, true, func(t *traced) {
		options = t.followed(nil)
		meter, failed = o.look(ctx, t)
	})
	if meter != nil {
		defer func() { _ = meter.Close() }() // nothing is left to do about an error
	}
	if t == nil {
		return err
	}
	defer t.cancel()
	if failed == nil {
		if err := exporter.Attached(ctx, o.source(t, options.Flows, meter)); err != nil {
			failed = fmt.Errorf("%w: %w", trace.ErrCannotRun, err) // the new user cannot read the web config
		}
	}
	if failed != nil {
		t.stopRecording()
		return errors.Join(failed, exporter.Close(), t.tracer.Close())
	}
	options.Source, options.Sink, options.Warn = session.Live(t.tracer), closing{exporter}, t.console.Say
	t.recorded(&options)
	_, err = session.Run(ctx, options)
	return err
}

// look runs check and attaches what measures congestion, if asked to: both take privileges
// that are dropped later.
func (o *exporterOptions) look(ctx context.Context, t *traced) (Meter, error) {
	var err error
	if o.found, err = t.check(ctx); err != nil {
		t.lacksFindings(ctx, err)
	}
	if !o.congestion {
		return nil, nil
	}
	return o.Measure(ctx, congestion.Options{
		Interfaces: o.interfaces, Wait: o.wait, BTF: o.btf,
		Notify: func(n event.Notice) {
			if n.ID == event.NoticeInterfaceFailed { // the tracer reports the rest
				t.notify(n)
			}
		},
	})
}

func (o *exporterOptions) source(t *traced, flows feed.Flows, meter Meter) feed.Source {
	s := feed.Source{
		Backend: t.tracer.Choice().Backend, Totals: t.tracer.Totals, Hooks: t.tracer.Hooks, Flows: flows,
		Findings: o.found, Check: t.check,
	}
	if meter != nil {
		s.Congestion = meter.Reports
	}
	return s
}

// closing is a sink whose error is reported by who opened it.
type closing struct{ session.Sink }

func (c closing) Close() error {
	_ = c.Sink.Close()
	return nil
}
