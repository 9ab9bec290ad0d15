package main

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// answerFirst is how long an action waits: its answer leaves by the interface that
// the action may take away.
const answerFirst = time.Second

// deeds are what dom0 does to the guest on request, one at a time.
type deeds struct {
	program string                          // does what its arguments say
	own     map[string]func([]string) error // what the peer does itself, by the action's first word

	mu     sync.Mutex
	doing  string
	done   int
	failed string
}

// begin starts an action and does not wait for it.
func (d *deeds) begin(arguments []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(arguments) == 0 {
		return fmt.Errorf("do: no action")
	}
	if d.doing != "" {
		return fmt.Errorf("do: %q is not done yet", d.doing)
	}
	d.doing = strings.Join(arguments, " ")
	time.AfterFunc(answerFirst, func() { d.carryOut(arguments) })
	return nil
}

func (d *deeds) carryOut(arguments []string) {
	var output []byte
	var err error
	if do := d.own[arguments[0]]; do != nil {
		err = do(arguments[1:])
	} else {
		output, err = exec.Command(d.program, arguments...).CombinedOutput()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doing, d.failed = "", ""
	d.done++
	if err != nil {
		d.failed = fmt.Sprintf("%s: %v: %s", strings.Join(arguments, " "), err, output)
	}
}

// state reports what is being done, how many actions have ended, and what the last
// one said if it failed.
func (d *deeds) state() (doing string, done int, failed string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.doing, d.done, d.failed
}
