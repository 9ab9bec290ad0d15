package prometheus

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"xentrace/test/need"
)

// program returns the path of a program of Prometheus.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../build/prometheus", name))
	if err != nil {
		t.Fatal(err)
	}
	need.File(t, path)
	return path
}

// serve starts a Prometheus on loopback with the samples of a file, and returns its URL.
func serve(t *testing.T, samples string) string {
	t.Helper()
	directory := t.TempDir()
	out, err := exec.Command(program(t, "promtool"), "tsdb", "create-blocks-from", "openmetrics", samples, directory).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool: %v: %s", err, out)
	}
	config := filepath.Join(directory, "prometheus.yml")
	if err := os.WriteFile(config, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	const tries = 5 // another process can have taken the port
	for range tries {
		address := freePort(t)
		server := exec.Command(program(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+directory,
			"--storage.tsdb.retention.time=100y", "--web.listen-address="+address)
		if log, up := ready(t, server); up {
			return "http://" + address
		} else if !strings.Contains(log, "address already in use") {
			t.Fatalf("prometheus: %s", log)
		}
	}
	t.Fatalf("no free port in %d tries", tries)
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// ready starts the server and reads its log until it answers queries or has ended. It
// stops it when the test is over.
func ready(t *testing.T, server *exec.Cmd) (log string, up bool) {
	t.Helper()
	stderr, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		log += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "Server is ready to receive web requests.") {
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				for lines.Scan() { // a full pipe would block the server
				}
			}()
			t.Cleanup(func() {
				_ = server.Process.Kill()
				<-drained
				_ = server.Wait()
			})
			return log, true
		}
	}
	_ = server.Wait()
	return log, false
}

// A sample is one series of a result with its value, the last one of a range.
type sample struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

func (s sample) last() string {
	pair := s.Value
	if len(s.Values) > 0 {
		pair = s.Values[len(s.Values)-1]
	}
	return fmt.Sprint(pair[1])
}

// query asks the HTTP API: path is query or query_range.
func query(server, path string, parameters url.Values) ([]sample, error) {
	return ask(http.DefaultClient, server, path, parameters)
}

func ask(client *http.Client, server, path string, parameters url.Values) ([]sample, error) {
	response, err := client.Get(server + "/api/v1/" + path + "?" + parameters.Encode())
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct{ Result []sample }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("query: %s", answer.Error)
	}
	return answer.Data.Result, nil
}
