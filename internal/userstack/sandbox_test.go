package userstack

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/sandbox"
	"xentrace/test/need"
	"xentrace/test/role"
)

// nameInSandbox prints the frames of a process as xentrace names them once attached,
// given the PID and the addresses.
func nameInSandbox(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	c := caller{pid: pid}
	for _, word := range args[1:] {
		address, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return err
		}
		c.addresses = append(c.addresses, address)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := sandbox.Enter(sandbox.Policy{Processes: true}); err != nil {
		return err
	}
	for _, frame := range c.name(New()) {
		fmt.Println(frame)
	}
	return nil
}

// The seccomp filter, which forbids openat2, leaves what naming needs.
func TestFramesAreNamedInTheSandbox(t *testing.T) {
	need.Root(t, "to read the files of another process without being its parent")
	path := program(t, "whole")
	c := start(t, path, "")
	args := []string{strconv.Itoa(c.pid)}
	for _, address := range c.addresses {
		args = append(args, strconv.FormatUint(address, 10))
	}
	out, err := role.Command("sandboxed", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	expect(t, strings.Split(strings.TrimSpace(string(out)), "\n"), named(path)...)
}
