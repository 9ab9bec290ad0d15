package exporter

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// cacheTime is how old metrics of the Go runtime and of the process may be. Reading them
// takes longer than everything else in a scrape.
const cacheTime = time.Second

// A cached collector collects again once its metrics are too old.
type cached struct {
	prometheus.Collector
	now func() time.Time

	mu      sync.Mutex
	metrics []prometheus.Metric
	at      time.Time
}

func cache(c prometheus.Collector) *cached { return &cached{Collector: c, now: time.Now} }

func (c *cached) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	if now := c.now(); c.metrics == nil || now.Sub(c.at) >= cacheTime {
		c.metrics, c.at = collect(c.Collector), now
	}
	metrics := c.metrics
	c.mu.Unlock()
	for _, m := range metrics {
		ch <- m
	}
}

func collect(c prometheus.Collector) []prometheus.Metric {
	ch := make(chan prometheus.Metric)
	go func() {
		c.Collect(ch)
		close(ch)
	}()
	var metrics []prometheus.Metric
	for m := range ch {
		metrics = append(metrics, m)
	}
	return metrics
}
