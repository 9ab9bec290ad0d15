// Package owner finds whose a packet is: the process that owns the packet's socket,
// its systemd unit and its container.
//
// A record may come with its sender, of which the kernel side was sure; that one is
// it. Otherwise, as for all that an interrupt sends, the processes that hold the
// socket are asked for, by its inode: of several the one that was last seen sending is the
// owner, or else the one that was started first, as long as it holds the socket. Answers
// are kept for each socket. What is sent by a socket that has no file any more belongs to who
// was known to own it, if it is certainly the same socket. Nobody owns the kernel's own sockets.
package owner

import (
	"errors"
	"time"

	"xentrace/internal/event"
)

const (
	maxSockets = 8192 // kept

	// forgetAfter is how long the owner of a socket is kept that sends nothing that goes
	// wrong: TCP waits up to two minutes before it sends again (TCP_RTO_MAX).
	forgetAfter = 4 * time.Minute
	// forgetEvery is how often sockets are looked through for such ones.
	forgetEvery = time.Minute
	// askAgain is how long an owner is believed without having been seen sending.
	askAgain = 5 * time.Second
	// askNobody is how long a socket that nobody holds is not asked for again.
	askNobody = 2 * time.Second
)

// A socketKey tells a socket from all others: the kernel does not use inode numbers twice
// for long.
type socketKey struct{ address, inode uint64 }

// A socket is what is known of one.
type socket struct {
	task    event.Task
	process *event.Process // nil: nobody holds it
	sent    bool           // task was seen sending
	asked   time.Time      // when it was found out
	used    time.Time

	cookie uint64
	origin uint32 // of the sequence numbers; 0 if unknown
}

// A want is a socket whose holders are to be asked for.
type want struct {
	key socketKey
	uid uint32
}

// owners knows the owners of sockets.
type owners struct {
	sockets map[socketKey]*socket
	inodes  map[uint64]uint64 // by address: of the last socket there that had a file
	places  *places
	wanted  map[uint64]want // sockets to ask for, by inode
	forgot  time.Time       // when sockets were looked through last

	find     func(inodes []uint64) ([]event.Holder, error)
	fallback func(inodes []uint64) ([]event.Holder, error)
}

func newOwners(find func([]uint64) ([]event.Holder, error)) *owners {
	return &owners{
		sockets:  make(map[socketKey]*socket),
		inodes:   make(map[uint64]uint64),
		places:   newPlaces(),
		wanted:   make(map[uint64]want),
		find:     find,
		fallback: func(inodes []uint64) ([]event.Holder, error) { return scan("/proc", inodes) },
	}
}

// complete fills in whose a packet is, if that is known, and reports false if it may
// be after the sockets that are wanted were asked for.
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
		o.want(p.Socket)
		return false
	}
	known.note(p, now)
	p.Process = known.process
	age := now.Sub(known.asked)
	if known.process == nil && age >= askNobody {
		o.want(p.Socket)
		return false
	}
	if age >= askAgain {
		o.want(p.Socket) // what was known does for now
	}
	return true
}

func (o *owners) want(s *event.Socket) {
	if len(o.wanted) < event.MaxHolderInodes {
		o.wanted[s.Inode] = want{socketKey{s.Address, s.Inode}, s.UID}
	}
}

// sender takes the sender of a record for the owner of its socket.
func (o *owners) sender(key socketKey, known *socket, p *event.Packet, now time.Time) *event.Process {
	if known == nil || known.process == nil || known.task != *p.Sender {
		known = o.keep(key, &socket{task: *p.Sender, process: o.process(p.Sender, p.Socket.UID)}, now)
	}
	known.sent, known.asked = true, now
	known.note(p, now)
	return known.process
}

// completeOrphan: the socket has no file, because its process closed it or is gone.
// A TCP connection is told from another at the same address by where its sequence numbers
// begin, any socket by its cookie, if it has one.
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

// origin is about where the sequence numbers of a connection began, which stays as it is
// while both snd_una and what was acknowledged move; 0 if unknown.
func origin(p *event.Packet) uint32 {
	if p.TCP == nil {
		return 0
	}
	return p.TCP.SndUna - uint32(p.TCP.BytesAcked)
}

func (s *socket) note(p *event.Packet, now time.Time) {
	s.used = now
	if p.Socket.Cookie != 0 {
		s.cookie = p.Socket.Cookie
	}
	if from := origin(p); from != 0 {
		s.origin = from
	}
}

func (o *owners) keep(key socketKey, s *socket, now time.Time) *socket {
	if len(o.sockets) >= maxSockets || now.Sub(o.forgot) >= forgetEvery {
		o.forget(now)
	}
	if before := o.sockets[key]; before != nil {
		s.cookie, s.origin = before.cookie, before.origin
	}
	s.asked, s.used = now, now
	o.sockets[key] = s
	o.inodes[key.address] = key.inode
	return s
}

// forget drops what was not used for a while, and if that is not enough, everything.
func (o *owners) forget(now time.Time) {
	o.forgot = now
	for key, s := range o.sockets {
		if now.Sub(s.used) >= forgetAfter {
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
	place := o.places.of(task)
	return &event.Process{PID: task.PID, Comm: task.Comm, UID: uid, Unit: place.Unit, Container: place.Container}
}

// takeWanted returns the sockets that are to be asked for, and forgets them.
func (o *owners) takeWanted() map[uint64]want {
	wanted := o.wanted
	o.wanted = make(map[uint64]want)
	return wanted
}

// ask finds the holders of sockets. It may run beside everything else.
func (o *owners) ask(wanted map[uint64]want) ([]event.Holder, error) {
	inodes := make([]uint64, 0, len(wanted))
	for inode := range wanted {
		inodes = append(inodes, inode)
	}
	holders, err := o.find(inodes)
	if errors.Is(err, errors.ErrUnsupported) {
		return o.fallback(inodes)
	}
	return holders, err
}

// answer takes what was found.
func (o *owners) answer(wanted map[uint64]want, holders []event.Holder, now time.Time) {
	byInode := make(map[uint64][]event.Task)
	for _, h := range holders {
		byInode[h.Inode] = append(byInode[h.Inode], h.Task)
	}
	for inode, asked := range wanted {
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

// choose returns the owner among those that hold a socket: who was seen sending, else
// who was started first.
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

// isSame reports whether two are the same process, whatever it calls itself.
func isSame(a, b *event.Task) bool { return a.PID == b.PID && a.Started == b.Started }
