package exporter

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// reads counts how often it was collected.
type reads struct{ float64 }

var readsDesc = prometheus.NewDesc("reads", "Reads.", nil, nil)

func (*reads) Describe(ch chan<- *prometheus.Desc) { ch <- readsDesc }

func (r *reads) Collect(ch chan<- prometheus.Metric) {
	r.float64++
	ch <- prometheus.MustNewConstMetric(readsDesc, prometheus.GaugeValue, r.float64)
}

func TestCachedMetrics(t *testing.T) {
	c := cache(&reads{})
	now := start
	c.now = func() time.Time { return now }
	for _, step := range []struct {
		after time.Duration
		want  float64
	}{{0, 1}, {cacheTime - 1, 1}, {1, 2}, {cacheTime / 2, 2}} {
		now = now.Add(step.after)
		if got := testutil.ToFloat64(c); got != step.want {
			t.Errorf("%g after %s, want %g", got, now.Sub(start), step.want)
		}
	}
}
