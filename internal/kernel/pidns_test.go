package kernel

import (
	"fmt"
	"os"
	"testing"

	"xentrace/test/need"
	"xentrace/test/role"
)

// showPIDNamespace is the process of [TestInPIDNamespace].
func showPIDNamespace([]string) error {
	fmt.Println(map[bool]string{true: "inside", false: "outside"}[InPIDNamespace()])
	return nil
}

// In a PID namespace of its own the process knows that it is in one.
func TestInPIDNamespace(t *testing.T) {
	need.Root(t, "to make a PID namespace")
	need.Tool(t, "unshare")
	need.That(t, !InPIDNamespace(), "the first PID namespace")
	for want, line := range map[string][]string{
		"outside": {os.Args[0]},
		"inside":  {"unshare", "-pf", "--mount-proc", os.Args[0]},
	} {
		output, err := role.CommandOf("namespaced", line...).CombinedOutput()
		if err != nil || string(output) != want+"\n" {
			t.Errorf("%v: %q, error %v; want %s", line, output, err, want)
		}
	}
}
