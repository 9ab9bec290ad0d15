package exporter

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
)

// maxFresh is how many scrapes in a second read the counters, far more than there are of any
// set of Prometheus servers. The ones above that get the last answer: a client that scrapes
// without a pause costs no more CPU than these.
const maxFresh = 10

// maxFormats bounds the formats whose last answers are kept.
const maxFormats = 8

// answers sends each answer in one piece and with its length: net/http would send it in chunks.
type answers struct {
	handler http.Handler
	now     func() time.Time

	mu    sync.Mutex
	fresh [maxFresh]time.Time // when the last ones were begun
	next  int                 // the oldest of them
	last  map[expfmt.Format]*written
}

// written is an answer.
type written struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *written) Header() http.Header         { return w.header }
func (w *written) WriteHeader(status int)      { w.status = status }
func (w *written) Write(b []byte) (int, error) { return w.body.Write(b) }

func newAnswers(h http.Handler) *answers {
	return &answers{handler: h, now: time.Now, last: make(map[expfmt.Format]*written)}
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	last, may := a.begin(format)
	switch {
	case may:
		size := 0
		if last != nil {
			const growth = 256 // numbers get longer
			size = last.body.Len() + growth
		}
		a.answer(format, size, w, r)
	case last != nil && r.URL.RawQuery == "":
		w.Header().Set("Age", "0") // in seconds: it is not of this request
		last.send(w)
	default:
		http.Error(w, "over "+strconv.Itoa(maxFresh)+" scrapes in a second", http.StatusServiceUnavailable)
	}
}

// begin returns the last answer in a format, and whether another one may be made.
func (a *answers) begin(f expfmt.Format) (last *written, may bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, oldest := a.now(), &a.fresh[a.next]
	if may = oldest.IsZero() || now.Sub(*oldest) >= time.Second; may {
		*oldest = now
		a.next = (a.next + 1) % maxFresh
	}
	return a.last[f], may
}

// answer makes an answer. The next one will have about the size of the last.
func (a *answers) answer(f expfmt.Format, size int, w http.ResponseWriter, r *http.Request) {
	answer := &written{header: make(http.Header), status: http.StatusOK}
	answer.body.Grow(size)
	a.handler.ServeHTTP(answer, r)
	if answer.status == http.StatusOK && r.URL.RawQuery == "" { // name[] asks for a part
		a.mu.Lock()
		if _, known := a.last[f]; known || len(a.last) < maxFormats {
			a.last[f] = answer
		}
		a.mu.Unlock()
	}
	answer.send(w)
}

func (w *written) send(to http.ResponseWriter) {
	for name, values := range w.header {
		to.Header()[name] = values
	}
	to.Header().Set("Content-Length", strconv.Itoa(w.body.Len()))
	to.WriteHeader(w.status)
	_, _ = to.Write(w.body.Bytes()) // the client may be gone
}
