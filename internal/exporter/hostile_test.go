package exporter

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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
		"that keep connections":      {2 * maxConnections, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n", false},
		"that do not read responses": {2 * maxScrapes, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 1000), false},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, feed.Options{}, nil)
			e.server.http.IdleTimeout = time.Hour
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
	client := http.Client{Timeout: time.Minute} // a connection that is not accepted never fails
	for {
		response, err := client.Get("http://" + e.Addresses()[0] + "/metrics")
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

// A client of HTTP/2 that opens streams and does not read them has few handlers wait for it.
func TestStreamsThatAreNotRead(t *testing.T) {
	e := open(t, feed.Options{}, nil)
	s := httptest.NewUnstartedServer(nil)
	s.Config, s.EnableHTTP2 = e.server.http, true
	s.StartTLS()
	defer s.Close()
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const streams = 20
	openStreams(t, conn, streams)
	refused := 0
	for framer := http2.NewFramer(io.Discard, conn); refused < streams-maxStreams; {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("%d of %d streams are refused: %v", refused, streams, err)
		}
		if reset, is := frame.(*http2.RSTStreamFrame); is {
			refused++
			if reset.StreamID <= 2*maxStreams {
				t.Errorf("stream %d is refused: %v", reset.StreamID, reset.ErrCode)
			}
		}
	}
}

// openStreams requests metrics that many times, and has none sent.
func openStreams(t *testing.T, conn io.ReadWriter, streams uint32) {
	t.Helper()
	var header bytes.Buffer
	encoder := hpack.NewEncoder(&header)
	for _, f := range [][2]string{{":method", "GET"}, {":path", "/metrics"}, {":scheme", "https"}, {":authority", "x"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_, err := io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	err = errors.Join(err, framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	for i := range streams {
		err = errors.Join(err, framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 2*i + 1, BlockFragment: header.Bytes(), EndHeaders: true, EndStream: true,
		}))
	}
	if err != nil {
		t.Fatal(err)
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
