package trace

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// Connections reads the state of TCP connections by the address of their socket, and their
// last state after they ended. The tracepoint inet_sock_set_state is hooked only while any
// is followed. Its methods may be called from several goroutines.
type Connections struct {
	jiffy time.Duration

	mu         sync.Mutex
	clock      kernelClock
	collection *ebpf.Collection // nil before it is loaded
	hook       link.Link        // nil while none is followed
	followed   map[uint64]event.Socket
	questions  bpf.XentraceQuestions
}

func newConnections(jiffy time.Duration) *Connections {
	return &Connections{jiffy: jiffy, followed: make(map[uint64]event.Socket)}
}

// load loads the programs and begins to follow what was asked for before.
func (c *Connections) load(types *kernel.Types) error {
	collection, err := loadPrograms(types, bpf.XentraceProgReadConnections, bpf.XentraceProgConnectionEnd)
	if err != nil {
		return fmt.Errorf("reader of connections: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collection = collection
	for _, s := range c.followed {
		if err := c.begin(s); err != nil {
			return err
		}
	}
	return nil
}

// Follow makes the kernel keep the last values of a connection when it ends, until
// Forget.
func (c *Connections) Follow(s event.Socket) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followed[s.Address] = s
	if c.collection == nil {
		return nil
	}
	return c.begin(s)
}

func (c *Connections) begin(s event.Socket) error {
	if err := c.collection.Maps[bpf.XentraceMapFollowed].Put(s.Address, bpf.XentraceConnection{}); err != nil {
		return fmt.Errorf("end of a connection: %w", err)
	}
	if c.hook != nil {
		return nil
	}
	var err error
	c.hook, err = link.AttachRawTracepoint(link.RawTracepointOptions{
		Name: "inet_sock_set_state", Program: c.collection.Programs[bpf.XentraceProgConnectionEnd],
	})
	if err != nil {
		return fmt.Errorf("end of a connection: inet_sock_set_state: %w", err)
	}
	return nil
}

// Forget ends the following.
func (c *Connections) Forget(s event.Socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.followed, s.Address)
	if c.collection == nil {
		return
	}
	_ = c.collection.Maps[bpf.XentraceMapFollowed].Delete(s.Address) // the map may have been full
	if len(c.followed) == 0 && c.hook != nil {
		_ = c.hook.Close() // nothing to do about it
		c.hook = nil
	}
}

// Endings returns how many of the connections followed have ended so far.
func (c *Connections) Endings() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.collection == nil {
		return 0, event.ErrNotLoaded
	}
	var n uint64
	if err := c.collection.Maps[bpf.XentraceMapEndings].Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("ends of connections: %w", err)
	}
	return n, nil
}

// Ask returns the present or last state of connections, in the order of their sockets. One that had ended before it was followed is Ended and not Known.
func (c *Connections) Ask(sockets []event.Socket) ([]event.Connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.collection == nil {
		return nil, event.ErrNotLoaded
	}
	answers := make([]event.Connection, 0, len(sockets))
	for some := range slices.Chunk(sockets, len(c.questions.Sockets)) {
		if err := c.ask(some); err != nil {
			return nil, fmt.Errorf("connections: %w", err)
		}
		for i, s := range some {
			answers = append(answers, c.answer(s, &c.questions.Connections[i]))
		}
	}
	return answers, nil
}

// ask runs the BPF program for as many connections as it reads at once.
func (c *Connections) ask(sockets []event.Socket) error {
	clear(c.questions.Sockets[:])
	for i, s := range sockets {
		c.questions.Sockets[i] = s.Address
	}
	questions := c.collection.Maps[bpf.XentraceMapAsked]
	if err := questions.Put(uint32(0), &c.questions); err != nil {
		return err
	}
	if _, err := c.collection.Programs[bpf.XentraceProgReadConnections].Run(&ebpf.RunOptions{Context: [1]uint64{}}); err != nil {
		return err
	}
	return questions.Lookup(uint32(0), &c.questions)
}

func (c *Connections) answer(s event.Socket, now *bpf.XentraceConnection) event.Connection {
	const tcpClose = 7 // TCP_CLOSE of include/net/tcp_states.h
	if now.Tcp.Present == 0 || now.Hash != s.Hash || now.Ended == 0 && now.Tcp.State == tcpClose {
		// Its memory was freed, and may be in use again.
		return event.Connection{Time: c.clock.wallTime(now.TimeNs), Ended: true}
	}
	return event.Connection{
		Time: c.clock.wallTime(now.TimeNs), Ended: now.Ended != 0, Known: true,
		TCP: decodeState(&now.Tcp, c.jiffy),
	}
}

func (c *Connections) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.hook != nil {
		err = c.hook.Close()
		c.hook = nil
	}
	if c.collection != nil {
		c.collection.Close()
		c.collection = nil
	}
	return err
}

// Connections reads the connections whose packets were recorded. It works until Close.
func (t *Tracer) Connections() *Connections { return t.connections }

func (t *Tracer) loadConnections(types *kernel.Types) {
	if !t.options.Records {
		return
	}
	if err := t.connections.load(types); err != nil && t.background.Err() == nil {
		t.notify(event.Notice{ID: event.NoticeConnectionsUnavailable, Reason: err.Error()})
	}
}
