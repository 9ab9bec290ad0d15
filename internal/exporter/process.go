package exporter

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// processAge is how old metrics of this process may be: of Go, of /proc/self and of HTTP.
// Reading them takes longer than everything else in a scrape.
const processAge = time.Second

// process gathers metrics of this process again once they are too old. It has nothing that
// concerns packets.
type process struct {
	prometheus.Gatherer
	age time.Duration
	now func() time.Time

	mu       sync.Mutex
	families []*dto.MetricFamily // never changed
	err      error
	at       time.Time
}

func newProcess(g prometheus.Gatherer) *process {
	return &process{Gatherer: g, age: processAge, now: time.Now}
}

// Gather implements prometheus.Gatherer.
func (p *process) Gather() ([]*dto.MetricFamily, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); p.at.IsZero() || now.Sub(p.at) >= p.age {
		p.families, p.err = p.Gatherer.Gather()
		p.at = now
	}
	return slices.Clip(p.families), p.err
}

// inOrder are gatherers whose families follow each other by name, those of one after those of
// the one before: merging them would check each series again.
type inOrder []prometheus.Gatherer

// Gather implements prometheus.Gatherer.
func (all inOrder) Gather() (families []*dto.MetricFamily, failed error) {
	for _, g := range all {
		more, err := g.Gather()
		families = append(families, more...)
		failed = errors.Join(failed, err)
	}
	return families, failed
}
