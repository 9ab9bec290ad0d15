package exporter

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A family is the metrics of one name.
type family struct {
	desc   *prometheus.Desc
	labels []string // in alphabetical order, as the registry wants them
}

func newFamily(name, help string, labels ...string) *family {
	slices.Sort(labels)
	return &family{prometheus.NewDesc(name, help, labels, nil), labels}
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

// A sample is one series at one moment. The constant metrics of client_golang have no native
// histograms with classic buckets, and sort their labels each time.
type sample struct {
	family *family
	labels []*dto.LabelPair

	counter   *dto.Counter
	gauge     *dto.Gauge
	histogram *dto.Histogram
}

func (s *sample) Desc() *prometheus.Desc { return s.family.desc }

func (s *sample) Write(m *dto.Metric) error {
	m.Label, m.Counter, m.Gauge, m.Histogram = s.labels, s.counter, s.gauge, s.histogram
	return nil
}

// A writer collects samples.
type writer chan<- prometheus.Metric

// counter writes a counter that began at that time.
func (w writer) counter(f *family, labels []*dto.LabelPair, value float64, began time.Time) {
	w <- &sample{family: f, labels: labels, counter: &dto.Counter{Value: &value, CreatedTimestamp: timestamppb.New(began)}}
}

func (w writer) gauge(f *family, labels []*dto.LabelPair, value float64) {
	w <- &sample{family: f, labels: labels, gauge: &dto.Gauge{Value: &value}}
}

func (w writer) histogram(f *family, labels []*dto.LabelPair, h *dto.Histogram, began time.Time) {
	h.CreatedTimestamp = timestamppb.New(began)
	w <- &sample{family: f, labels: labels, histogram: h}
}

func bucket(upperBound float64, count uint64) *dto.Bucket {
	return &dto.Bucket{UpperBound: proto.Float64(upperBound), CumulativeCount: proto.Uint64(count)}
}

func boolean(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
