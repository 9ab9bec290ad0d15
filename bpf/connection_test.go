package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

const socketHash = 0x12345678

// connections runs the programs that tell how a socket stands, on a fake one.
type connections struct{ *programs }

func newConnections(t *testing.T, a *arena) *connections {
	t.Helper()
	return &connections{loadPrograms(t, a, XentraceConfiguration{PageSize: 4096})}
}

// lay lays out the socket of a connection.
func (c *connections) lay(s fakeSocket, tcp tcpFields, hash uint64) {
	c.arena.socket(s, tcp)
	c.arena.set(atSock, hash, "sock", "__sk_common", "skc_hash")
	c.arena.flush()
}

func (c *connections) address() uint64 { return c.arena.address + atSock }

// ask has the program read the socket.
func (c *connections) ask() XentraceConnection {
	c.t.Helper()
	return c.askAbout(1)[0]
}

// askAbout has the program read it that many times at once.
func (c *connections) askAbout(n int) []XentraceConnection {
	c.t.Helper()
	var asked XentraceQuestions
	for i := range n {
		asked.Sockets[i] = c.address()
	}
	questions := c.collection.Maps[XentraceMapAsked]
	if err := questions.Put(uint32(0), &asked); err != nil {
		c.t.Fatal(err)
	}
	c.run(XentraceProgReadConnections, 0)
	if err := questions.Lookup(uint32(0), &asked); err != nil {
		c.t.Fatal(err)
	}
	for i, left := range asked.Connections[n:] {
		if left != (XentraceConnection{}) {
			c.t.Fatalf("an answer without a question: %d of %d: %+v", n+i, n, left)
		}
	}
	return asked.Connections[:n]
}

// state has the tracepoint see the socket change its state.
func (c *connections) state(to uint64) {
	c.run(XentraceProgConnectionEnd, c.address(), established, to)
}

func (c *connections) follow() {
	c.t.Helper()
	if err := c.collection.Maps[XentraceMapFollowed].Put(c.address(), XentraceConnection{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *connections) endings() uint64 {
	c.t.Helper()
	var n uint64
	if err := c.collection.Maps[XentraceMapEndings].Lookup(uint32(0), &n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

func fieldsOf(c *XentraceConnection) tcpFields {
	return tcpOf(&XentracePacketEvent{Tcp: c.Tcp})
}

var (
	tcpSocket = fakeSocket{familyIPv4, stream, protocolTCP, established}
	standing  = tcpFields{SndUna: 0xffffff00, SndNxt: 0x100, WriteSeq: 0x2000, RtoJiffies: 51, SrttUs: 99, State: established, Retransmits: 3, Present: 1}
)

// What is asked for is how the socket stands now.
func TestConnectionStands(t *testing.T) {
	c := newConnections(t, newArena(t))
	c.lay(tcpSocket, standing, socketHash)
	if now := c.ask(); fieldsOf(&now) != standing || now.Hash != socketHash || now.Ended != 0 || now.TimeNs == 0 {
		t.Errorf("%+v", now)
	}
	moved := standing
	moved.SndUna = 0x80
	c.lay(tcpSocket, moved, socketHash)
	if now := c.ask(); fieldsOf(&now) != moved {
		t.Errorf("%+v", now)
	}
	c.lay(fakeSocket{familyIPv4, datagram, protocolUDP, established}, standing, socketHash)
	if now := c.ask(); now.Tcp.Present != 0 {
		t.Errorf("%+v of a UDP socket", now)
	}
}

// As many as there is room for are asked about at once.
func TestManyConnectionsAtOnce(t *testing.T) {
	c := newConnections(t, newArena(t))
	c.lay(tcpSocket, standing, socketHash)
	for _, n := range []int{0, 1, 2, 63, 64} {
		for i, now := range c.askAbout(n) {
			if fieldsOf(&now) != standing || now.Hash != socketHash || now.Ended != 0 {
				t.Errorf("%d of %d: %+v", i, n, now)
			}
		}
	}
}

// At the end of a connection that is followed its last values are kept, whatever
// becomes of its memory; the end of any other changes nothing.
func TestConnectionEnds(t *testing.T) {
	c := newConnections(t, newArena(t))
	c.lay(tcpSocket, standing, socketHash)
	c.state(closed)
	if n := c.endings(); n != 0 {
		t.Errorf("%d endings of a connection that is not followed", n)
	}
	c.follow()
	for _, other := range []uint64{2, 4, 5, 8, 9, 10, 11} { // not TCP_CLOSE
		c.state(other)
	}
	if n := c.endings(); n != 0 || c.ask().Ended != 0 {
		t.Errorf("%d endings while it went from state to state", n)
	}
	c.state(closed)
	reused := standing
	reused.SndUna, reused.WriteSeq = 7, 7
	c.lay(tcpSocket, reused, 1)
	last := c.ask()
	if fieldsOf(&last) != standing || last.Ended != 1 || last.Hash != socketHash || c.endings() != 1 {
		t.Errorf("%+v, %d endings", last, c.endings())
	}
	c.state(closed) // of what lies there now
	if again := c.ask(); again != last || c.endings() != 1 {
		t.Errorf("%+v, %d endings, after another one", again, c.endings())
	}
	if err := c.collection.Maps[XentraceMapFollowed].Delete(c.address()); err != nil {
		t.Fatal(err)
	}
	if now := c.ask(); fieldsOf(&now) != reused || now.Ended != 0 {
		t.Errorf("%+v, after it was forgotten", now)
	}
}

// No program that a packet runs refers to a hash map, but for what follows the backend's
// errors.
func TestPacketsTouchNoHashMap(t *testing.T) {
	spec, err := LoadXentrace()
	if err != nil {
		t.Fatal(err)
	}
	hashes := 0
	for name, program := range spec.Programs {
		for i := range program.Instructions {
			m := spec.Maps[program.Instructions[i].Reference()]
			if m == nil || m.Type != ebpf.Hash || name == XentraceProgFentryGcEnd && m.Name == XentraceMapReportedOf {
				continue
			}
			hashes++
			// The end of a connection, and what user space runs.
			if name != XentraceProgConnectionEnd && name != XentraceProgReadConnections && name != XentraceProgFindHolders {
				t.Errorf("%s refers to the hash map %s", name, m.Name)
			}
		}
	}
	if hashes == 0 {
		t.Error("no program refers to a hash map: the test looks at nothing")
	}
}
