package exporter

import (
	"net"
	"strings"
	"testing"

	"xentrace/internal/exporter/feed"
)

// At boot the service may start before the machine has its address.
func TestAddressThatIsNotThereYet(t *testing.T) {
	e, err := Open(t.Context(), feed.Options{Listen: []string{"[127.0.0.1]:0", "192.0.2.77:0"}}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const later = " (not an address of this machine yet)"
	if all := e.Addresses(); len(all) != 2 || strings.Contains(all[0], later) || !strings.HasPrefix(all[1], "192.0.2.77:") || !strings.HasSuffix(all[1], later) {
		t.Errorf("listens on %q", all)
	}
}

// A socket of systemd that is no listener, as of ListenDatagram=, is an error, and the others are
// closed.
func TestPassedSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := passed([]net.Listener{l}, nil); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := passed([]net.Listener{nil, l}, nil); err == nil || !strings.Contains(err.Error(), "ListenStream=") {
		t.Errorf("error %v", err)
	}
	if err := l.Close(); err == nil {
		t.Error("the other one is not closed")
	}
}
