package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// stallDelay lets the answer to the command leave first.
	stallDelay = 100 * time.Millisecond
	// stallRate is a limit for the vif that lets no packet through: bytes, and the
	// microseconds in which they are granted. netback watches this key in xenstore.
	stallRate = "1,100000"
)

// stall has netback take nothing from the guest's ring for so many milliseconds,
// beginning a moment from now. The guest's interface stays up meanwhile: its ring
// fills, and then its queue is stopped.
func (c control) stall(argument string) error {
	ms, err := strconv.Atoi(argument)
	if err != nil || ms <= 0 {
		return fmt.Errorf("stall: %q is no number of milliseconds", argument)
	}
	device, err := os.Readlink(filepath.Join(c.vif, "device"))
	if err != nil {
		return fmt.Errorf("stall: %w", err)
	}
	// The device of domain 1's first interface is called vif-1-0.
	ids := strings.Split(filepath.Base(device), "-")
	if len(ids) != 3 {
		return fmt.Errorf("stall: %s is no vif", device)
	}
	key := fmt.Sprintf("/local/domain/0/backend/vif/%s/%s/rate", ids[1], ids[2])
	go func() {
		time.Sleep(stallDelay)
		xenstore("write", key, stallRate)
		time.Sleep(time.Duration(ms) * time.Millisecond)
		xenstore("rm", key)
	}()
	return nil
}

// xenstore runs one of its commands. A failure is told on dom0's console.
func xenstore(arguments ...string) {
	if out, err := exec.Command("xenstore", arguments...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "peer: xenstore %s: %v: %s\n", strings.Join(arguments, " "), err, out)
	}
}
