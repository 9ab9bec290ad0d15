package exporter

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/exporter/feed"
)

// Clients that take every connection and then neither send nor read lose theirs: a scrape
// succeeds, and what is scraped was never delayed by them.
func TestSlowClients(t *testing.T) {
	for name, test := range map[string]struct {
		clients int
		sends   string
		losesIt bool // before it gets a response
	}{
		"that send half a header":    {maxConnections, "GET /metrics HTTP/1.1\r\nHost: x\r\n", true},
		"that send nothing":          {maxConnections, "", true},
		"that do not read responses": {2 * maxScrapes, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 1000), false},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, feed.Options{}, nil)
			if test.losesIt {
				e.server.http.ReadHeaderTimeout = 50 * time.Millisecond
			}
			e.Start()
			if err := e.Attached(t.Context(), *(&machine{totals: reading(1, many(64)...)}).source()); err != nil {
				t.Fatal(err)
			}
			var clients []net.Conn
			for range test.clients {
				client, err := net.Dial("tcp", e.Addresses()[0])
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				if _, err := io.WriteString(client, test.sends); err != nil {
					t.Fatal(err)
				}
				clients = append(clients, client)
			}
			if body := scrape(t, e); !strings.Contains(body, `device="eth0"`) {
				t.Errorf("a scrape meanwhile: %q", body)
			}
			for _, client := range clients {
				if !test.losesIt {
					continue
				}
				// Only a client whose connection the server closed gets to the end.
				_ = client.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err := io.Copy(io.Discard, client); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the server keeps a slow client")
				}
			}
		})
	}
}

// scrape returns metrics. Where the machine is so slow that its own header comes too late, or
// while clients that do not read have not filled their sockets, it is tried again.
func scrape(t *testing.T, e *Exporter) string {
	t.Helper()
	for {
		response, err := http.Get("http://" + e.Addresses()[0] + "/metrics")
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err == nil && response.StatusCode == http.StatusServiceUnavailable {
			continue
		}
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("a scrape: %s, %v", response.Status, err)
		}
		return string(text)
	}
}

// many returns interfaces eth0, eth1 and so on.
func many(n int) []event.InterfaceTotals {
	all := make([]event.InterfaceTotals, 0, n)
	for i := range n {
		all = append(all, whole(i+2, fmt.Sprintf("eth%d", i)))
	}
	return all
}
