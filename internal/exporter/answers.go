package exporter

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
)

// answerAge is how old an answer may be. No scraper comes so often; with 100 scrapes per
// second it keeps the cost of all of them to that of two.
const answerAge = 500 * time.Millisecond

// maxFormats bounds the formats whose answers are kept.
const maxFormats = 8

// answers serves an answer again while it is young enough.
type answers struct {
	handler http.Handler
	age     time.Duration
	now     func() time.Time

	mu   sync.Mutex
	kept map[expfmt.Format]*written
}

// written is an answer.
type written struct {
	header http.Header
	status int
	body   bytes.Buffer
	at     time.Time // when it was begun
}

func (w *written) Header() http.Header         { return w.header }
func (w *written) WriteHeader(status int)      { w.status = status }
func (w *written) Write(b []byte) (int, error) { return w.body.Write(b) }

func keepAnswers(h http.Handler) *answers {
	return &answers{handler: h, age: answerAge, now: time.Now, kept: make(map[expfmt.Format]*written)}
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	answer, size := a.young(format)
	if answer == nil {
		answer = &written{header: make(http.Header), status: http.StatusOK, at: a.now()}
		answer.body.Grow(size)
		a.handler.ServeHTTP(answer, r)
		a.keep(format, answer)
	}
	w.Header().Set("Content-Length", strconv.Itoa(answer.body.Len())) // else it is sent in chunks
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body.Bytes()) // the client may be gone
}

// young returns an answer that can be served again. If there is none, the next one is likely
// to have that size.
func (a *answers) young(f expfmt.Format) (answer *written, size int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.kept[f]
	if last == nil {
		return nil, 0
	}
	if a.now().Sub(last.at) < a.age {
		return last, 0
	}
	const growth = 64 // numbers get longer
	return nil, last.body.Len() + growth
}

func (a *answers) keep(f expfmt.Format, answer *written) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.kept[f]; answer.status == http.StatusOK && (known || len(a.kept) < maxFormats) {
		a.kept[f] = answer
	}
}
