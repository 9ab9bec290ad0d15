package exporter

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"

	"xentrace/internal/exporter/feed"
)

// Bounds of what clients can use up. A scraper that does not read its answer loses its
// connection after writeTimeout.
const (
	maxScrapes     = 4 // at once; more get 503
	maxConnections = 128
	maxStreams     = 4 // of HTTP/2, in a connection; 250 by default
	maxHeaderBytes = 16 << 10

	headerTimeout = 5 * time.Second
	readRequest   = 10 * time.Second
	writeTimeout  = 15 * time.Second
	idleTimeout   = 3 * time.Minute // longer than between two scrapes
)

type server struct {
	http      *http.Server
	webConfig string
	process   *process
	answers   *answers
	ready     atomic.Bool
}

func newServer(o feed.Options, c *collector) (*server, error) {
	s := &server{webConfig: o.WebConfig}
	if o.WebConfig != "" {
		if err := web.Validate(o.WebConfig); err != nil {
			return nil, fmt.Errorf("web config %s: %w", o.WebConfig, err)
		}
	}
	metrics, err := s.metrics(c)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	landing, err := landingPage(o.Version)
	if err != nil {
		return nil, fmt.Errorf("landing page: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "healthy") })
	mux.HandleFunc("GET /-/ready", s.answerReady)
	mux.Handle("GET /", landing)
	s.http = &http.Server{
		Handler: mux, MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: headerTimeout, ReadTimeout: readRequest,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams}, ConnState: newConnections(maxConnections).follow,
		ErrorLog: log.New(io.Discard, "", 0), // what clients do wrong would fill the journal
	}
	return s, nil
}

// metrics returns the handler of /metrics.
func (s *server) metrics(c *collector) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	s.process = newProcess(registry) // go_*, process_*, promhttp_*: before xentrace_*
	s.answers = newAnswers(promhttp.HandlerFor(inOrder{s.process, c}, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError, Registry: registry,
		DisableCompression: true, // 20 KB are less dear than compressing them
	}))
	return promhttp.InstrumentMetricHandler(registry, s.answers), nil
}

func landingPage(version string) (http.Handler, error) {
	return web.NewLandingPage(web.LandingConfig{
		Name: "xentrace-exporter", Description: "What xen-netfront does to packets.", Version: version, Profiling: "false",
		Links: []web.LandingLinks{
			{Address: "/metrics", Text: "Metrics"},
			{Address: "/-/ready", Text: "Ready", Description: "200 once every hook is attached"},
			{Address: "/-/healthy", Text: "Healthy"},
		},
	})
}

func (s *server) answerReady(w http.ResponseWriter, _ *http.Request) {
	if s.ready.Load() {
		answer(w, http.StatusOK, "ready")
		return
	}
	answer(w, http.StatusServiceUnavailable, "not ready: waiting for an interface, attaching or ending")
}

func answer(w http.ResponseWriter, status int, sentence string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, sentence+"\n") // the client may be gone
}

// validate reads the web config as requests do: after privileges were dropped.
func (s *server) validate() error {
	if s.webConfig == "" {
		return nil
	}
	if err := web.Validate(s.webConfig); err != nil {
		return fmt.Errorf("web config %s: cannot be used by the user of --user: %w", s.webConfig, err)
	}
	return nil
}

// serve returns once the server was closed, or has failed.
func (s *server) serve(listeners []net.Listener) error {
	err := web.ServeMultiple(listeners, s.http, &web.FlagConfig{WebConfigFile: &s.webConfig}, slog.New(slog.DiscardHandler))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *server) close() { _ = s.http.Close() } // what serve returns counts
