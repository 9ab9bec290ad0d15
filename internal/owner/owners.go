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
	"errors"
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

type lookup struct {
	key socketKey
	uid uint32
}

type owners struct {
	sockets map[socketKey]*socket
	inodes  map[uint64]uint64 // by address: of the last socket there that had a file
	cgroups *cgroups
	pending map[uint64]lookup // sockets to look up, by inode
	expired time.Time         // last run of expire

	find     func(inodes []uint64) ([]event.Holder, error)
	fallback func(inodes []uint64) ([]event.Holder, error)
}

func newOwners(find func([]uint64) ([]event.Holder, error)) *owners {
	return &owners{
		sockets:  make(map[socketKey]*socket),
		inodes:   make(map[uint64]uint64),
		cgroups:  newCgroups(),
		pending:  make(map[uint64]lookup),
		find:     find,
		fallback: func(inodes []uint64) ([]event.Holder, error) { return scan("/proc", inodes) },
	}
}

// complete fills in the owner of a packet if it is known, and reports false if the
// pending lookups may find it.
func (o *owners) complete(p *event.Packet, now time.Time) bool {
	if p.Socket == nil {
		return true
	}
	if p.Socket.Inode == 0 {
		o.completeOrphan(p, now)
		return true
	}
	key := socketKey{p.Socket.Address, p.Socket.Inode}
	known := o.sockets[key]
	if p.Sender != nil {
		p.Process = o.sender(key, known, p, now)
		return true
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
	if len(o.pending) < event.MaxHolderInodes {
		o.pending[s.Inode] = lookup{socketKey{s.Address, s.Inode}, s.UID}
	}
}

func (o *owners) sender(key socketKey, known *socket, p *event.Packet, now time.Time) *event.Process {
	if known == nil || known.process == nil || known.task != *p.Sender {
		known = o.keep(key, &socket{task: *p.Sender, process: o.process(p.Sender, p.Socket.UID)}, now)
	}
	known.sent, known.asked = true, now
	known.update(p, now)
	return known.process
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
}

func (o *owners) drop(key socketKey) {
	delete(o.sockets, key)
	if o.inodes[key.address] == key.inode {
		delete(o.inodes, key.address)
	}
}

func (o *owners) process(task *event.Task, uid uint32) *event.Process {
	cgroup := o.cgroups.of(task)
	return &event.Process{PID: task.PID, Comm: task.Comm, UID: uid, Unit: cgroup.Unit, Container: cgroup.Container}
}

func (o *owners) takePending() map[uint64]lookup {
	pending := o.pending
	o.pending = make(map[uint64]lookup)
	return pending
}

// lookUp finds the holders of sockets. It may run concurrently with all other methods.
func (o *owners) lookUp(pending map[uint64]lookup) ([]event.Holder, error) {
	inodes := make([]uint64, 0, len(pending))
	for inode := range pending {
		inodes = append(inodes, inode)
	}
	holders, err := o.find(inodes)
	if errors.Is(err, errors.ErrUnsupported) {
		return o.fallback(inodes)
	}
	return holders, err
}

func (o *owners) apply(pending map[uint64]lookup, holders []event.Holder, now time.Time) {
	byInode := make(map[uint64][]event.Task)
	for _, h := range holders {
		byInode[h.Inode] = append(byInode[h.Inode], h.Task)
	}
	for inode, asked := range pending {
		known := o.sockets[asked.key]
		owner := choose(byInode[inode], known)
		if owner == nil {
			o.keep(asked.key, &socket{}, now)
			continue
		}
		sent := known != nil && known.sent && isSame(owner, &known.task)
		o.keep(asked.key, &socket{task: *owner, process: o.process(owner, asked.uid), sent: sent}, now)
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
		if first == nil || h.Started < first.Started || h.Started == first.Started && h.PID < first.PID {
			first = h
		}
	}
	return first
}

// isSame reports whether two tasks are the same process; its name may have changed.
func isSame(a, b *event.Task) bool { return a.PID == b.PID && a.Started == b.Started }
