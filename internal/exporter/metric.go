package exporter

import (
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A family is the metrics of one name.
type family struct {
	name, help string
	labels     []string // in alphabetical order, as expositions want them
	number     int      // its place among all families, by name
}

func newFamily(name, help string, labels ...string) *family {
	slices.Sort(labels)
	return &family{name: name, help: help, labels: labels}
}

// pairs are the labels of one series; values are in the order of the family's labels.
func (f *family) pairs(values ...string) []*dto.LabelPair {
	pairs := make([]*dto.LabelPair, len(values))
	for i := range values {
		pairs[i] = &dto.LabelPair{Name: &f.labels[i], Value: &values[i]}
	}
	return pairs
}

// netnsLabel is the label of a network namespace; empty for none.
func netnsLabel(netns uint32) string {
	if netns == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(netns), 10)
}

// A writer collects the series of one moment. client_golang's registry would make a metric of
// each one, send it through a channel and check it again: that is most of a scrape.
type writer struct {
	families []dto.MetricFamily // by number
	numbers  room[number]
	buckets  room[countedBucket]
}

// A number is a series that is a counter or a gauge, in one allocation with what it points to.
type number struct {
	metric  dto.Metric
	counter dto.Counter
	gauge   dto.Gauge
	value   float64
}

func newWriter(f *families) *writer {
	return &writer{families: make([]dto.MetricFamily, len(f.all))}
}

// add adds a series to its family.
func (w *writer) add(f *family, kind dto.MetricType, m *dto.Metric) {
	of := &w.families[f.number]
	if of.Name == nil {
		of.Name, of.Help, of.Type = &f.name, &f.help, kind.Enum()
	}
	of.Metric = append(of.Metric, m)
}

// counter writes a counter that began at that time.
func (w *writer) counter(f *family, labels []*dto.LabelPair, value float64, began *timestamppb.Timestamp) {
	n := w.numbers.next()
	n.value, n.metric.Label, n.metric.Counter = value, labels, &n.counter
	n.counter.Value, n.counter.CreatedTimestamp = &n.value, began
	w.add(f, dto.MetricType_COUNTER, &n.metric)
}

func (w *writer) gauge(f *family, labels []*dto.LabelPair, value float64) {
	n := w.numbers.next()
	n.value, n.metric.Label, n.metric.Gauge, n.gauge.Value = value, labels, &n.gauge, &n.value
	w.add(f, dto.MetricType_GAUGE, &n.metric)
}

func (w *writer) histogram(f *family, labels []*dto.LabelPair, h *dto.Histogram, began *timestamppb.Timestamp) {
	h.CreatedTimestamp = began
	w.add(f, dto.MetricType_HISTOGRAM, &dto.Metric{Label: labels, Histogram: h})
}

// A countedBucket is a bucket in one allocation with what it points to.
type countedBucket struct {
	bucket dto.Bucket
	bound  float64
	count  uint64
}

func (w *writer) bucket(upperBound float64, count uint64) *dto.Bucket {
	b := w.buckets.next()
	b.bound, b.count = upperBound, count
	b.bucket.UpperBound, b.bucket.CumulativeCount = &b.bound, &b.count
	return &b.bucket
}

// written returns the families that have series, by name.
func (w *writer) written() []*dto.MetricFamily {
	all := make([]*dto.MetricFamily, 0, len(w.families))
	for i := range w.families {
		if f := &w.families[i]; f.Name != nil {
			all = append(all, f)
		}
	}
	return all
}

// room hands out elements of one allocation after another.
type room[T any] struct{ free []T }

// roomSize is the elements of one allocation.
const roomSize = 64

func (r *room[T]) next() *T {
	if len(r.free) == 0 {
		r.free = make([]T, roomSize)
	}
	one := &r.free[0]
	r.free = r.free[1:]
	return one
}

func boolean(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
