//go:build xenlab && matrix

package guest

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An exporter that is scraped from outside of the guest, while whoever connects to port 10119
// has it do what alerts are about: a line each, answered with a line. test/xen/alerts looks at
// the alerts.
func TestAlertsInTheGuest(t *testing.T) {
	if os.Getenv("XENTRACE_LAB_ALERTS") == "" {
		t.Skip("test/xen/alerts runs this test")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	jumbo(t)
	sent, dropped := counter(t, "tx_packets"), counter(t, "tx_dropped")
	exporter := exec.Command(filepath.Join(filepath.Dir(self), "xentrace-exporter"), "-i", ifname, "--rejected", "--web.listen-address", ":10118")
	exporter.Stderr = os.Stderr
	if err := exporter.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := exporter.Process.Signal(unix.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := exporter.Wait(); err != nil {
			t.Error(err)
		}
	}()
	for began := time.Now(); !readyExporter(); time.Sleep(time.Second) {
		if time.Since(began) > 5*time.Minute {
			t.Fatal("the exporter is not ready")
		}
	}
	control, err := net.Listen("tcp", ":10119")
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	fmt.Println("exporter: ready")
	var stalled *stuck
	for {
		conn, err := control.Accept()
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		switch line {
		case "stall\n":
			stalled = newStuck(t, "ipv4")
			stalled.awaitDrops(t, 3)
			_, err = fmt.Fprintln(conn, counter(t, "tx_dropped")-stalled.dropped)
		case "close\n":
			_, err = fmt.Fprintln(conn, stalled.Abort())
		case "sg off\n":
			_, err = fmt.Fprintln(conn, loseWithoutScatterGather(t))
		case "counters\n":
			_, err = fmt.Fprintln(conn, counter(t, "tx_packets")-sent, counter(t, "tx_dropped")-dropped)
		case "end\n":
			fmt.Printf("exporter: ended after %d packets sent, %d dropped\n", counter(t, "tx_packets")-sent, counter(t, "tx_dropped")-dropped)
			_, _ = fmt.Fprintln(conn, "ended")
			_ = conn.Close()
			time.Sleep(time.Second) // until it has that line
			return
		default:
			t.Fatalf("no such request: %q", line)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
}

func readyExporter() bool {
	response, err := http.Get("http://127.0.0.1:10118/-/ready")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}
