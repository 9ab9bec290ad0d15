package exporter

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"
)

// numbered answers each request with its number and the query.
type numbered struct{ calls, status int }

func (n *numbered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.calls++
	w.Header().Set("Content-Type", "text/x")
	w.WriteHeader(n.status)
	_, _ = fmt.Fprint(w, n.calls, r.URL.RawQuery)
}

// Each scrape has an answer of its own, but for those above the limit of a second: they get
// the last one of their format, and none that was asked for by name or refused.
func TestAnswersOfScrapes(t *testing.T) {
	const text, openMetrics = "text/plain", "application/openmetrics-text;version=1.0.0"
	n := &numbered{status: 200}
	a, now := newAnswers(n), start
	a.now = func() time.Time { return now }
	ask := func(format, query string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/metrics"+query, nil)
		r.Header.Set("Accept", format)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Length"); w.Code != 503 && (got != fmt.Sprint(w.Body.Len()) || w.Header().Get("Content-Type") != "text/x") {
			t.Errorf("header %v of %q", w.Header(), w.Body)
		}
		return w
	}
	for i := range maxFresh - 2 {
		if w := ask(text, ""); w.Body.String() != fmt.Sprint(i+1) || w.Header().Get("Age") != "" {
			t.Errorf("scrape %d of a second: %q, Age %q", i+1, w.Body, w.Header().Get("Age"))
		}
	}
	if w := ask(text, "?name[]=x"); w.Body.String() != fmt.Sprint(maxFresh-1, "name[]=x") {
		t.Errorf("by name: %q", w.Body)
	}
	n.status = 500
	if w := ask(text, ""); w.Code != 500 {
		t.Errorf("one that fails: %d", w.Code)
	}
	n.status = 200
	now = now.Add(time.Second - 1)
	if w := ask(text, ""); w.Code != 200 || w.Body.String() != fmt.Sprint(maxFresh-2) || w.Header().Get("Age") != "0" {
		t.Errorf("above the limit: %d %q, Age %q", w.Code, w.Body, w.Header().Get("Age"))
	}
	if w := ask(text, "?name[]=x"); w.Code != 503 || n.calls != maxFresh {
		t.Errorf("above the limit, by name: %d after %d calls", w.Code, n.calls)
	}
	for want := range 2 { // the first one in a format, which is then the last one
		if w := ask(openMetrics, ""); w.Body.String() != fmt.Sprint(maxFresh+1) || (w.Header().Get("Age") != "") != (want == 1) {
			t.Errorf("above the limit, in another format: %q, Age %q", w.Body, w.Header().Get("Age"))
		}
	}
}

// Who asks for answers by name without a pause makes nobody's answer older than a second.
func TestAnswersGetNoOlder(t *testing.T) {
	n := &numbered{status: 200}
	a, now := newAnswers(n), start
	a.now = func() time.Time { return now }
	for second := range 3 {
		for range maxFresh {
			a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics?name[]=x", nil))
		}
		for range 2 {
			w := httptest.NewRecorder()
			a.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			if want := fmt.Sprint((second + 1) * (maxFresh + 1)); w.Body.String() != want {
				t.Errorf("second %d: %q, want %s", second, w.Body, want)
			}
		}
		now = now.Add(time.Second)
	}
}

// Sending an answer again makes no copy.
func TestAnswerSentAgainIsNotCopied(t *testing.T) {
	const size = 1 << 20
	a := newAnswers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }))
	a.now = func() time.Time { return start }
	r := httptest.NewRequest("GET", "/metrics", nil)
	w := &discard{make(http.Header), 0}
	for range maxFresh {
		a.ServeHTTP(w, r)
	}
	const times = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		a.ServeHTTP(w, r)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > times*size/10 {
		t.Errorf("%d bytes allocated to send %d %d times", got, size, times)
	}
	if w.written != (times+maxFresh)*size {
		t.Errorf("%d bytes written, want %d", w.written, (times+maxFresh)*size)
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
	a := newAnswers(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }))
	r := httptest.NewRequest("GET", "/metrics", nil)
	for range 2 {
		a.ServeHTTP(&discard{header: make(http.Header)}, r)
	}
	for format, last := range a.last {
		if room := last.answer.body.Cap(); room < size || room > 2*size-1024 {
			t.Errorf("%s: room for %d bytes, the answer has %d", format, room, size)
		}
	}
}
