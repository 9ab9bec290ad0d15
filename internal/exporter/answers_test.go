package exporter

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
)

// An answer is served again while it is young, to whom asks for the same format; a refusal
// is not.
func TestAnswersAreServedAgain(t *testing.T) {
	calls, status := 0, http.StatusOK
	now := start
	a := keepAnswers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, calls)
	}))
	a.now = func() time.Time { return now }
	const text, openMetrics = "text/plain", "application/openmetrics-text;version=1.0.0"
	for _, step := range []struct {
		after  time.Duration
		format string
		status int
		want   string
	}{
		{0, text, 200, "1"},
		{answerAge - 1, text, 200, "1"},
		{0, openMetrics, 200, "2"},
		{1, text, 200, "3"},
		{answerAge, text, 503, "4"},
		{0, text, 503, "5"},
		{0, text, 200, "6"},
		{1, text, 200, "6"},
	} {
		now, status = now.Add(step.after), step.status
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", step.format)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Body.String() != step.want || w.Code != step.status || w.Header().Get("Content-Type") != "text/x" {
			t.Errorf("after %s: %d %q, want %d %q", now.Sub(start), w.Code, w.Body, step.status, step.want)
		}
	}
}

// An answer has its length, so it is not sent in chunks, and serving it again makes no copy.
func TestAnswerServedAgainIsNotCopied(t *testing.T) {
	const size = 1 << 20
	a := keepAnswers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }))
	a.now = func() time.Time { return start }
	r := httptest.NewRequest("GET", "/metrics", nil)
	w := &discard{make(http.Header), 0}
	a.ServeHTTP(w, r)
	if got := w.header.Get("Content-Length"); got != "1048576" {
		t.Errorf("Content-Length %q", got)
	}
	const times = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		a.ServeHTTP(w, r)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > times*size/10 {
		t.Errorf("%d bytes allocated to serve %d %d times", got, size, times)
	}
	if w.written != (times+1)*size {
		t.Errorf("%d bytes written, want %d", w.written, (times+1)*size)
	}
}

// discard is a response that keeps no body.
type discard struct {
	header  http.Header
	written int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}

func (d *discard) Write(b []byte) (int, error) {
	d.written += len(b)
	return len(b), nil
}

// The buffer of an answer has the size of the one before: it does not grow.
func TestAnswerHasTheSizeOfTheLast(t *testing.T) {
	const size = 20000
	a := keepAnswers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }))
	a.age = 0
	r := httptest.NewRequest("GET", "/metrics", nil)
	for range 2 {
		a.ServeHTTP(&discard{header: make(http.Header)}, r)
	}
	if _, next := a.young(expfmt.NegotiateAccept(r.Header)); next < size || next > size+1024 {
		t.Errorf("room for %d bytes, the last answer had %d", next, size)
	}
}
