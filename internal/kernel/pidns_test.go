package kernel

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// In a PID namespace of its own the process knows that it is in one.
func TestInPIDNamespace(t *testing.T) {
	if os.Getenv("XENTRACE_PIDNS") != "" {
		_, _ = os.Stdout.WriteString(map[bool]string{true: "\ninside\n", false: "\noutside\n"}[InPIDNamespace()])
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	if InPIDNamespace() {
		t.Skip("the tests run in a PID namespace")
	}
	for _, test := range []struct {
		command []string
		want    string
	}{{nil, "outside"}, {[]string{"unshare", "-pf", "--mount-proc"}, "inside"}} {
		command := append(test.command, os.Args[0], "-test.run=^TestInPIDNamespace$")
		run := exec.CommandContext(t.Context(), command[0], command[1:]...)
		run.Env = append(os.Environ(), "XENTRACE_PIDNS=1")
		output, err := run.CombinedOutput()
		if err != nil || !strings.Contains(string(output), "\n"+test.want+"\n") {
			t.Errorf("%v: %q, error %v; want %s", command, output, err, test.want)
		}
	}
}
