package exporter

import (
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xentrace/internal/event"
)

// pressure is what --congestion measured on an interface.
type pressure struct {
	occupancy  distribution // slots
	completion distribution // microseconds; its sum is in seconds
	stops      uint64
	full       time.Duration

	knowsOccupancy, knowsCompletion, knowsFull bool
}

// accepts are the connections of a network namespace.
type accepts struct {
	accepted         uint64
	took             distribution // microseconds
	overflows, drops uint64

	knowsAccepts, knowsListen bool
}

// pressures adds up reports, by the account of the interface and by namespace.
type pressures struct {
	interfaces map[int]*pressure
	spaces     map[uint32]*accepts
}

func newPressures() *pressures {
	return &pressures{make(map[int]*pressure), make(map[uint32]*accepts)}
}

// add takes in the reports of one moment.
func (p *pressures) add(reports []event.CongestionReport, account func(event.Device) int) {
	seen := make(map[uint32]bool)
	for i := range reports {
		r := &reports[i]
		number := account(event.Device{Name: r.Name, Index: r.Index, NetNS: r.NetNS})
		if p.interfaces[number] == nil {
			p.interfaces[number] = &pressure{occupancy: distribution{sum: math.NaN()}}
		}
		p.interfaces[number].add(&r.Total)
		// Of a namespace without series nothing is kept: there may be very many.
		if r.TCP != nil && number != 0 && !seen[r.NetNS] { // the same in each report of the namespace
			seen[r.NetNS] = true
			if p.spaces[r.NetNS] == nil {
				p.spaces[r.NetNS] = &accepts{took: distribution{sum: math.NaN()}}
			}
			p.spaces[r.NetNS].add(r.TCP)
		}
	}
}

func (p *pressure) add(q *event.CongestionQueue) {
	p.stops += q.Stops
	if q.Full != nil {
		p.full += *q.Full
		p.knowsFull = true
	}
	if q.Occupancy != nil {
		p.occupancy.add(q.Occupancy, 0)
		p.knowsOccupancy = true
	}
	if q.Latency != nil {
		var sum float64
		if q.MeanLatency != nil {
			sum = q.MeanLatency.Seconds() * float64(q.Completed)
		}
		p.completion.add(q.Latency, sum)
		p.knowsCompletion = true
	}
}

func (a *accepts) add(t *event.Accepts) {
	if t.Accepts != nil {
		a.accepted += *t.Accepts
		a.took.add(t.Accept, 0)
		a.knowsAccepts = true
	}
	if t.Overflows != nil && t.Drops != nil {
		a.overflows += *t.Overflows
		a.drops += *t.Drops
		a.knowsListen = true
	}
}

// Buckets of the counted ones that are served: of the ring all but the last, which also
// holds what is above its bound, and of times every second one, to 4.2 s.
var (
	occupancyBounds = []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
	timeBounds      = []int{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23}
)

const microsecond = 1e-6

func (p *pressure) write(w *writer, f *families, labels []*dto.LabelPair, began *timestamppb.Timestamp) {
	w.counter(f.stops, labels, float64(p.stops), began)
	if p.knowsFull {
		w.counter(f.full, labels, p.full.Seconds(), began)
	}
	if p.knowsOccupancy {
		w.histogram(f.occupancy, labels, p.occupancy.histogram(w, occupancyBounds, 1), began)
	}
	if p.knowsCompletion {
		w.histogram(f.completion, labels, p.completion.histogram(w, timeBounds, microsecond), began)
	}
}

func (a *accepts) write(w *writer, f *families, netns uint32, began *timestamppb.Timestamp) {
	labels := f.accepts.pairs(netnsLabel(netns))
	if a.knowsAccepts {
		w.counter(f.accepts, labels, float64(a.accepted), began)
		w.histogram(f.accept, labels, a.took.histogram(w, timeBounds, microsecond), began)
	}
	if a.knowsListen {
		w.counter(f.overflows, labels, float64(a.overflows), began)
		w.counter(f.listenDrops, labels, float64(a.drops), began)
	}
}
