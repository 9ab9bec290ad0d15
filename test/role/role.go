// Package role has a test start its own binary again as a process that plays a role:
// one that confines itself for good, holds a socket, or is killed halfway.
package role

import (
	"fmt"
	"os"
	"os/exec"
)

const variable = "XENTRACE_TEST_ROLE"

// A Role is the whole of such a process, given its arguments.
type Role func(args []string) error

// Main plays the role that the environment names and exits with status 1 if it fails. It
// returns if the environment names none. TestMain calls it before it runs tests.
func Main(roles map[string]Role) {
	name := os.Getenv(variable)
	if name == "" {
		return
	}
	play, known := roles[name]
	if !known {
		fmt.Fprintf(os.Stderr, "role %q is unknown\n", name)
		os.Exit(1)
	}
	if err := play(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "role %s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Command returns this binary as a process in a role.
func Command(name string, args ...string) *exec.Cmd {
	return CommandOf(name, append([]string{os.Args[0]}, args...)...)
}

// CommandOf returns a command line, which runs this binary or a copy in the end, with the
// role in its environment.
func CommandOf(name string, line ...string) *exec.Cmd {
	command := exec.Command(line[0], line[1:]...)
	command.Env = append(os.Environ(), variable+"="+name)
	return command
}
