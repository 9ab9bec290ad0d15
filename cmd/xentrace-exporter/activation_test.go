//go:build !cgo

package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// passwords are settings of basic auth: scraper has the password secret.
const passwords = "basic_auth_users:\n  scraper: $2a$04$X2vPKn5kDEK0EooVZz1quuZcpOhr4q9No2pktYubtiUhtTu9EEVoC\n"

// On a socket that systemd passes, it serves TLS to those who know a password, with few
// privileges left; a connection made before it started is served too.
func TestSocketActivation(t *testing.T) {
	l := newLab(t)
	l.scheme, l.user, l.password = "https", "scraper", "secret"
	var socket *os.File
	err := l.near.Namespace.Do(func() error {
		listener, err := net.Listen("tcp", "127.0.0.1:10118")
		if err != nil {
			return err
		}
		defer listener.Close()
		socket, err = listener.(*net.TCPListener).File()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	early := make(chan int)
	go func() { early <- l.status("/-/healthy") }()
	// LISTEN_PID is the process's own, which only a shell that becomes it knows.
	c := exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0], "--web.systemd-socket", "--web.config.file", certificate(t, passwords))
	c.ExtraFiles = []*os.File{socket}
	l.begin(c)
	_ = socket.Close()
	if status := <-early; status != http.StatusOK {
		t.Errorf("a connection from before: %d, want 200", status)
	}
	l.send(10)
	if got := l.metric("xentrace_packets_total", `device="near"`); got < 10 {
		t.Errorf("%g packets", got)
	}
	for _, c := range []struct {
		name, user, password string
		status               int
	}{
		{"no password", "", "", http.StatusUnauthorized},
		{"a wrong one", "scraper", "guess", http.StatusUnauthorized},
		{"another user", "root", "secret", http.StatusUnauthorized},
		{"the right one", "scraper", "secret", http.StatusOK},
	} {
		l.user, l.password = c.user, c.password
		for _, path := range []string{"/metrics", "/-/ready", "/"} {
			if status := l.status(path); status != c.status {
				t.Errorf("%s, %s: %d, want %d", c.name, path, status, c.status)
			}
		}
	}
	l.scheme = "http"
	if status := l.status("/metrics"); status != http.StatusBadRequest {
		t.Errorf("without TLS: %d, want 400", status)
	}
	if err := l.stop(); err != nil {
		t.Error(err)
	}
	if log := l.stderr.String(); strings.Contains(log, "secret") || strings.Contains(log, "TLS handshake") {
		t.Errorf("clients' faults are logged: %s", log)
	}
}
