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
// set of Prometheus servers. Those above it get the last answer, but one in a second of each
// format: a client that scrapes without a pause costs little CPU, and makes nobody's answer
// older than that.
const maxFresh = 10

// answers sends each answer in one piece and with its length: net/http would send it in chunks.
type answers struct {
	handler http.Handler
	now     func() time.Time

	mu    sync.Mutex
	fresh [maxFresh]time.Time       // when the last ones were begun
	next  int                       // the oldest of them
	last  map[expfmt.Format]*latest // there are few formats
}

// latest is the last whole answer in a format.
type latest struct {
	begun  time.Time // when the one after it was begun, or it itself
	answer *written  // nil before the first one is made
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
	return &answers{handler: h, now: time.Now, last: make(map[expfmt.Format]*latest)}
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	whole := r.URL.RawQuery == "" // name[] asks for a part
	last, may := a.begin(format, whole)
	switch {
	case may:
		answer := a.make(last, r)
		if whole && answer.status == http.StatusOK {
			a.keep(format, answer)
		}
		answer.send(w)
	case whole && last != nil:
		w.Header().Set("Age", "0") // in seconds: it is not of this request
		last.send(w)
	default:
		http.Error(w, "over "+strconv.Itoa(maxFresh)+" scrapes in a second", http.StatusServiceUnavailable)
	}
}

// begin returns the last answer in a format, and whether another one may be made.
func (a *answers) begin(f expfmt.Format, whole bool) (last *written, may bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, oldest := a.now(), &a.fresh[a.next]
	if may = now.Sub(*oldest) >= time.Second; may {
		*oldest = now
		a.next = (a.next + 1) % maxFresh
	}
	of := a.last[f]
	if of == nil {
		of = &latest{}
		a.last[f] = of
	}
	if whole && (may || now.Sub(of.begun) >= time.Second) {
		may, of.begun = true, now
	}
	return of.answer, may
}

func (a *answers) make(last *written, r *http.Request) *written {
	answer := &written{header: make(http.Header), status: http.StatusOK}
	if last != nil {
		const growth = 256 // numbers get longer
		answer.body.Grow(last.body.Len() + growth)
	}
	a.handler.ServeHTTP(answer, r)
	return answer
}

func (a *answers) keep(f expfmt.Format, answer *written) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last[f].answer = answer
}

func (w *written) send(to http.ResponseWriter) {
	for name, values := range w.header {
		to.Header()[name] = values
	}
	to.Header().Set("Content-Length", strconv.Itoa(w.body.Len()))
	to.WriteHeader(w.status)
	_, _ = to.Write(w.body.Bytes()) // the client may be gone
}
