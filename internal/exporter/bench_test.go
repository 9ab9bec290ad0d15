package exporter

import (
	"net/http/httptest"
	"testing"

	"xentrace/internal/exporter/feed"
)

func BenchmarkScrape(b *testing.B) {
	s, err := newServer(feed.Options{}, collecting(feed.Options{}, &machine{totals: reading(1, whole(2, "eth0"))}))
	if err != nil {
		b.Fatal(err)
	}
	s.answers.age = 0
	request := httptest.NewRequest("GET", "/metrics", nil)
	request.Header.Set("Accept-Encoding", "gzip")
	for b.Loop() {
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, request)
		if w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}
