// Package owner finds a packet's owner: the process that owns its socket, with that
// process's systemd unit and container.
//
// If the BPF program recorded the sender, that is the owner. Otherwise, e.g. for packets
// sent from softirq, the processes that hold the socket are looked up by its inode: the
// owner is the holder that sent last, else the one started first. Results are cached by
// socket. A socket without a file keeps its last known owner, if it is certainly the same
// socket. The kernel's own sockets have no owner.
package owner

import (
	"time"

	"xentrace/internal/event"
)

const (
	maxSockets = 8192 // cached

	// idleTimeout is how long a socket without records stays cached: TCP retransmits
	// within 2 min (TCP_RTO_MAX).
	idleTimeout    = 4 * time.Minute
	expireInterval = time.Minute
	// refreshAfter is the age at which an owner that was not seen sending is looked up again.
	refreshAfter = 5 * time.Second
	// retryAfter is the age at which a socket without a holder is looked up again.
	retryAfter = 2 * time.Second
)

// A socketKey identifies a socket: inode numbers are not reused soon.
type socketKey struct{ address, inode uint64 }

type socket struct {
	task    event.Task
	process *event.Process // nil: no process holds it
	sent    bool           // task was seen sending
	asked   time.Time      // last lookup, or last record with a sender
	used    time.Time

	cookie uint64
	origin uint32 // of the sequence numbers; 0 if unknown
}

type owners struct {
	sockets map[socketKey]*socket
	inodes  map[uint64]uint64 // by address: of the last socket there that had a file
	known   map[cgroupKey]knownCgroup
	pending question

	forwarded map[event.FlowKey]*forwarded

	expired time.Time // last run of expire
	lookups lookups
}

func newOwners(find finder) *owners {
	return &owners{
		forwarded: make(map[event.FlowKey]*forwarded),

		sockets: make(map[socketKey]*socket),
		inodes:  make(map[uint64]uint64),
		known:   make(map[cgroupKey]knownCgroup),
		pending: newQuestion(),
		lookups: newLookups(find),
	}
}

// complete fills in what is known of the owner of a packet, and reports false if the
// pending lookups may find out more.
func (o *owners) complete(p *event.Packet, now time.Time) bool {
	if p.Socket == nil {
		return o.completeForwarded(p, now)
	}
	if p.Socket.Inode == 0 {
		o.completeOrphan(p, now)
		return true
	}
	key := socketKey{p.Socket.Address, p.Socket.Inode}
	known := o.sockets[key]
	if p.Sender != nil {
		return o.completeSender(key, known, p, now)
	}
	if known == nil {
		o.enqueue(p.Socket)
		return false
	}
	known.update(p, now)
	p.Process = known.process
	age := now.Sub(known.asked)
	if known.process == nil && age >= retryAfter {
		o.enqueue(p.Socket)
		return false
	}
	if age >= refreshAfter {
		o.enqueue(p.Socket) // this packet gets the cached owner
	}
	return true
}

func (o *owners) enqueue(s *event.Socket) {
	o.pending.addSocket(s)
}

func (o *owners) completeSender(key socketKey, known *socket, p *event.Packet, now time.Time) bool {
	if known == nil || known.process == nil || known.task != *p.Sender {
		process, resolved := o.process(p.Sender, p.Socket.UID, now)
		p.Process = process
		if !resolved {
			return !o.pending.addTask(p.Sender, p.Socket.UID)
		}
		known = o.keep(key, &socket{task: *p.Sender, process: process}, now)
	}
	known.sent, known.asked = true, now
	known.update(p, now)
	p.Process = known.process
	return true
}

// completeOrphan handles a socket without a file: its process closed it or exited. A later
// socket at the same address has another cookie and, for TCP, another initial sequence number.
func (o *owners) completeOrphan(p *event.Packet, now time.Time) {
	known := o.sockets[socketKey{p.Socket.Address, o.inodes[p.Socket.Address]}]
	if known == nil {
		return
	}
	sameCookie := known.cookie != 0 && known.cookie == p.Socket.Cookie
	sameOrigin := known.origin != 0 && known.origin == origin(p)
	if sameCookie || sameOrigin {
		known.used = now
		p.Process = known.process
	}
}

// origin is snd_una - bytes_acked: close to the initial sequence number, and constant
// during a connection; 0 if unknown.
func origin(p *event.Packet) uint32 {
	if p.TCP == nil {
		return 0
	}
	return p.TCP.SndUna - uint32(p.TCP.BytesAcked)
}

func (s *socket) update(p *event.Packet, now time.Time) {
	s.used = now
	if p.Socket.Cookie != 0 {
		s.cookie = p.Socket.Cookie
	}
	if from := origin(p); from != 0 {
		s.origin = from
	}
}

func (o *owners) keep(key socketKey, s *socket, now time.Time) *socket {
	if len(o.sockets) >= maxSockets || now.Sub(o.expired) >= expireInterval {
		o.expire(now)
	}
	if before := o.sockets[key]; before != nil {
		s.cookie, s.origin = before.cookie, before.origin
	}
	s.asked, s.used = now, now
	o.sockets[key] = s
	o.inodes[key.address] = key.inode
	return s
}

// expire drops idle sockets and, if more than 3/4 of the cache is left, all of them.
func (o *owners) expire(now time.Time) {
	o.expired = now
	for key, s := range o.sockets {
		if now.Sub(s.used) >= idleTimeout {
			o.drop(key)
		}
	}
	if len(o.sockets) > maxSockets*3/4 {
		clear(o.sockets)
		clear(o.inodes)
	}
	o.expireForwarded(now)
}

func (o *owners) drop(key socketKey) {
	delete(o.sockets, key)
	if o.inodes[key.address] == key.inode {
		delete(o.inodes, key.address)
	}
}

// process reports false if the process's cgroup is not known yet.
func (o *owners) process(task *event.Task, uid uint32, now time.Time) (*event.Process, bool) {
	cgroup, resolved := o.cgroup(task, now)
	return &event.Process{PID: task.PID, Comm: task.Comm, UID: uid, Unit: cgroup.Unit, Container: cgroup.Container}, resolved
}

func (o *owners) apply(asked question, a answer, now time.Time) {
	for key, cgroup := range a.cgroups {
		o.learn(key, cgroup, now)
	}
	for inode, lookup := range asked.sockets {
		known := o.sockets[lookup.key]
		owner := choose(a.holders[inode], known)
		if owner == nil {
			o.keep(lookup.key, &socket{}, now)
			continue
		}
		sent := known != nil && known.sent && isSame(owner, &known.task)
		process, _ := o.process(owner, lookup.uid, now)
		o.keep(lookup.key, &socket{task: *owner, process: process, sent: sent}, now)
	}
	for key := range asked.flows {
		o.learnForwarded(key, a.senders[key], now)
	}
}

// choose returns the owner among the holders of a socket: the one seen sending, else the
// one started first.
func choose(holders []event.Task, known *socket) *event.Task {
	var first *event.Task
	for i := range holders {
		h := &holders[i]
		if known != nil && known.sent && isSame(h, &known.task) {
			return h
		}
		if first == nil || startedBefore(h, first) {
			first = h
		}
	}
	return first
}

func startedBefore(a, b *event.Task) bool {
	return a.Started < b.Started || a.Started == b.Started && a.PID < b.PID
}

// isSame reports whether two tasks are the same process; its name may have changed.
func isSame(a, b *event.Task) bool { return a.PID == b.PID && a.Started == b.Started }
