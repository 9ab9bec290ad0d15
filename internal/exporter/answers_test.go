package exporter

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
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
