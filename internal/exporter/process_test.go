package exporter

import (
	"errors"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// reads is a gatherer that counts how often it was read.
type reads struct{ n int }

func (r *reads) Gather() ([]*dto.MetricFamily, error) {
	r.n++
	return []*dto.MetricFamily{{Name: proto.String("reads")}}, nil
}

func TestMetricsOfTheProcess(t *testing.T) {
	r := &reads{}
	p := newProcess(r)
	now := start
	p.now = func() time.Time { return now }
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {processAge - 1, 1}, {1, 2}, {processAge / 2, 2}} {
		now = now.Add(step.after)
		families, err := p.Gather()
		if err != nil || len(families) != 1 || r.n != step.want {
			t.Errorf("read %d times after %s, want %d; %v, %v", r.n, now.Sub(start), step.want, families, err)
		}
		_ = append(families, nil) // what a scrape appends is its own
	}
}

type failing struct{ reads }

func (f *failing) Gather() ([]*dto.MetricFamily, error) {
	families, _ := f.reads.Gather()
	return families, errors.New("no")
}

// One that fails does not take the others' families away.
func TestGatherersInOrder(t *testing.T) {
	families, err := inOrder{&failing{}, &reads{}}.Gather()
	if len(families) != 2 || err == nil {
		t.Errorf("%d families, %v; want 2 and an error", len(families), err)
	}
}
