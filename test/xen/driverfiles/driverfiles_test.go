//go:build xenlab

package driverfiles

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What check --driver-file says, without any privilege, of every file: its name begins
// with what is to be found.
func TestDriverFiles(t *testing.T) {
	directory, program := os.Getenv("XENTRACE_DRIVER_FILES"), os.Getenv("XENTRACE_PROGRAM")
	files, err := filepath.Glob(filepath.Join(directory, "*-*"))
	if err != nil || directory == "" || len(files) == 0 {
		t.Fatalf("no file in XENTRACE_DRIVER_FILES=%q (%v): this runs in test/xen/driver-files", directory, err)
	}
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, path := range files {
		name := filepath.Base(path)
		does, _, _ := strings.Cut(name, "-")
		found[does]++
		t.Run(name, func(t *testing.T) {
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			want, known := map[string]string{"drops": "FAIL", "linearizes": "OK", "unknown": "UNKNOWN"}[does]
			if !known {
				t.Fatal("the name does not say what is to be found")
			}
			checkFile(t, program, file, want)
		})
	}
	if found["drops"] == 0 || found["linearizes"] == 0 || found["unknown"] == 0 {
		t.Errorf("%v files, want some of each", found)
	}
}

// checkFile hands the file over as the program's input, which a user who may not enter
// the cache's directory can read as well.
func checkFile(t *testing.T, program string, file *os.File, want string) {
	t.Helper()
	cmd := exec.Command(program, "check", "-o", "json", "--driver-file", "/proc/self/fd/0")
	cmd.Stdin = file
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	output, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var stderr string
	if exit != nil {
		stderr = string(exit.Stderr)
	}
	var f struct{ ID, Status, Message string }
	if err := json.Unmarshal(output, &f); err != nil {
		t.Fatalf("%v: wrote %q, stderr %q", err, output, stderr)
	}
	if f.ID != "linearize" || f.Status != want || stderr != "" || (cmd.ProcessState.ExitCode() == 1) != (want == "FAIL") {
		t.Errorf("%s: %s, status %d, stderr %q; want %s", f.Status, f.Message, cmd.ProcessState.ExitCode(), stderr, want)
	}
	t.Logf("%s: %s", f.Status, f.Message)
}
