// Package network makes network namespaces and joins them by veth pairs, for
// traffic that is to touch nothing else on the machine.
//
// The namespaces have no name and no process: a thread of this one lives in
// each. So they end with the process at the latest, however it ends, and the
// kernel removes what is in them.
package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned by a namespace that has been closed.
var ErrClosed = errors.New("network namespace is closed")

// Namespace is a network namespace that a thread of this process lives in.
type Namespace struct {
	file *os.File
	jobs chan func()

	once   sync.Once
	closed chan struct{}
}

// NewNamespace makes one. It takes CAP_SYS_ADMIN.
func NewNamespace() (*Namespace, error) {
	n := &Namespace{jobs: make(chan func()), closed: make(chan struct{})}
	made := make(chan error)
	go n.live(made)
	if err := <-made; err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return n, nil
}

// live is the thread. It is never given back: it ends with this goroutine.
func (n *Namespace) live(made chan<- error) {
	runtime.LockOSThread()
	if err := n.make(); err != nil {
		made <- err
		return
	}
	made <- nil
	for {
		select {
		case job := <-n.jobs:
			job()
		case <-n.closed:
			return
		}
	}
}

func (n *Namespace) make() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	n.file = file
	quiet()
	return nil
}

// quiet keeps IPv6 from sending on its own on interfaces that are made later:
// nothing but what the caller sends is to be counted. Where these settings
// cannot be written a few packets more are all that comes of it.
func quiet() {
	for name, value := range map[string]string{
		"accept_ra": "0", "accept_dad": "0", "addr_gen_mode": "1", "router_solicitations": "0",
		"mldv1_unsolicited_report_interval": "0", "mldv2_unsolicited_report_interval": "0",
	} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/"+name, []byte(value), 0)
	}
}

// Do runs fn on the thread that lives in the namespace, and returns its error.
// Sockets that fn makes and programs that it starts belong to the namespace;
// goroutines that it starts run elsewhere. Calls wait for each other.
func (n *Namespace) Do(fn func() error) error {
	result := make(chan error, 1)
	select {
	case n.jobs <- func() { result <- fn() }:
		return <-result
	case <-n.closed:
		return ErrClosed
	}
}

// Fd returns a descriptor of the namespace, good until Close.
func (n *Namespace) Fd() int { return int(n.file.Fd()) }

// Close ends the thread. The kernel removes the namespace once no socket of it
// is left. Closing twice is harmless.
func (n *Namespace) Close() error {
	err := error(nil)
	n.once.Do(func() {
		close(n.closed)
		err = n.file.Close()
	})
	return err
}
