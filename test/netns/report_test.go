package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/tool"
)

// A page of real packets, of a live run and of the recording of one: counts are exact, and
// the confined process still writes it.
func TestReport(t *testing.T) {
	l := newLab(t)
	traffic := l.tcpMixture(farAddress.Addr())
	l.awaitSilence() // the connection was made
	directory := t.TempDir()
	live, recording, page := filepath.Join(directory, "live.html"), filepath.Join(directory, "run.jsonl.zst"), filepath.Join(directory, "page.html")
	report := start(t, "report", "-i", "near", "-d", "1h", "-w", live)
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json", "-w", recording)
	must(t, traffic.send(t.Context()))
	l.awaitSilence() // the last acknowledgements
	watched := watch.Stop()
	packets := watched.Only(t).Packets
	report.stop()
	if out, err := exec.Command(xentrace, "report", recording, "-w", page).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range []string{live, page} {
		text, err := os.ReadFile(path)
		must(t, err)
		for _, part := range []string{
			fmt.Sprintf("the driver was handed %s packets; none was lost", grouped(int(packets))),
			fmt.Sprintf("%d packets over the slot limit of xen-netfront", rocketsEach),
			nearAddress.Addr().String() + ":", " &gt; " + farAddress.Addr().String() + ":", "netns.test[", "MTU 1500", "fragment layout",
		} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s: no %q in %.3000s", filepath.Base(path), part, text[strings.Index(string(text), "<main"):])
			}
		}
	}
	hidden := filepath.Join(directory, "hidden.html")
	if out, err := exec.Command(xentrace, "report", recording, "--redact", "-w", hidden).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(hidden)
	must(t, err)
	for _, secret := range []string{nearAddress.Addr().String(), farAddress.Addr().String(), "netns.test", directory} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the redacted page holds %q", secret)
		}
	}
	if !strings.Contains(string(text), "10.0.0.1:") || !strings.Contains(string(text), "proc-1[") {
		t.Error("the redacted page has no replacements")
	}
}
