package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/role"
)

func TestMain(m *testing.M) {
	role.Main(map[string]role.Role{"confined": showConfined, "namespaced": showPIDNamespace})
	os.Exit(m.Run())
}

// showConfined is the process of TestConfine and its like: confining is for good.
func showConfined(args []string) error {
	user := Nobody
	if args[0] == "root" {
		user = User{}
	}
	for range 2 { // as demo does
		if err := Confine(user, unix.CAP_BPF, unix.CAP_SYSLOG); err != nil {
			return err
		}
	}
	if err := showThreads(); err != nil {
		return err
	}
	bits, _ := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Printf("0 securebits %#x\n0 dumpable %d\n", bits, dumpable)
	for _, path := range []string{"/etc/shadow", "/proc/self/ns/net", "/proc/thread-self/ns/net"} {
		if file, err := os.Open(path); err != nil {
			fmt.Printf("0 open:%s %v\n", path, os.IsPermission(err))
		} else {
			_ = file.Close()
			fmt.Printf("0 open:%s ok\n", path)
		}
	}
	if out, err := exec.Command("/bin/cat", "/proc/self/status").Output(); err == nil {
		_, rest, _ := strings.Cut(string(out), "CapPrm:\t")
		fmt.Printf("0 child %s\n", rest[:16])
	} else {
		fmt.Printf("0 child %v\n", err)
	}
	return nil
}

// showThreads prints the users and capabilities of each thread.
func showThreads() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(status)) {
			if key, value, _ := strings.Cut(strings.TrimSpace(line), ":"); strings.HasPrefix(key, "Cap") || key == "Uid" || key == "Gid" || key == "Groups" || key == "NoNewPrivs" {
				fmt.Printf("%s %s %s\n", task.Name(), key, strings.Join(strings.Fields(value), " "))
			}
		}
	}
	return nil
}
