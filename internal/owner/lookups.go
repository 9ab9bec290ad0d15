package owner

import (
	"errors"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/procfs"
	"xentrace/internal/share"
)

// maxKnown bounds the cached cgroups.
const maxKnown = 4096

// A cgroupKey identifies a process in one cgroup. Its name may change.
type cgroupKey struct {
	pid     int
	started time.Duration
	cgroup  uint64
}

func keyOf(task *event.Task) cgroupKey { return cgroupKey{task.PID, task.Started, task.Cgroup} }

// A knownCgroup is the result of a lookup.
type knownCgroup struct {
	Cgroup
	settled bool
	asked   time.Time
}

// cgroup returns the cached cgroup of a process, and false if it has to be looked up.
func (o *owners) cgroup(task *event.Task, now time.Time) (Cgroup, bool) {
	known, is := o.known[keyOf(task)]
	return known.Cgroup, is && (known.settled || now.Sub(known.asked) < retryAfter)
}

func (o *owners) learn(key cgroupKey, cgroup knownCgroup, now time.Time) {
	if len(o.known) >= maxKnown {
		clear(o.known)
	}
	cgroup.asked = now
	o.known[key] = cgroup
}

// A question is what lookups have to find. Where too much is asked for, each user has the
// same share.
type question struct {
	sockets map[uint64]lookup // holders of these, by inode
	flows   map[event.FlowKey]struct{}
	tasks   map[cgroupKey]taskLookup

	ofSockets, ofTasks share.Counts
}

type taskLookup struct {
	event.Task
	uid uint32
}

func (q *question) addSocket(s *event.Socket) bool {
	if _, is := q.sockets[s.Inode]; is {
		return true
	}
	if len(q.sockets) >= event.MaxWanted && !yield(q.sockets, q.ofSockets, s.UID, func(l lookup) uint32 { return l.uid }) {
		return false
	}
	q.sockets[s.Inode] = lookup{socketKey{s.Address, s.Inode}, s.UID}
	q.ofSockets.Add(s.UID)
	return true
}

// addFlow reports false if too many wait.
func (q *question) addFlow(key event.FlowKey) bool {
	if _, is := q.flows[key]; !is && len(q.flows) >= event.MaxWanted {
		return false
	}
	q.flows[key] = struct{}{}
	return true
}

// walks reports whether the files of all processes have to be visited.
func (q *question) walks() bool { return len(q.sockets)+len(q.flows) > 0 }

// addTask reports false if too many wait.
func (q *question) addTask(task *event.Task, uid uint32) bool {
	key := keyOf(task)
	if _, is := q.tasks[key]; is {
		return true
	}
	if len(q.tasks) >= event.MaxWanted && !yield(q.tasks, q.ofTasks, uid, func(t taskLookup) uint32 { return t.uid }) {
		return false
	}
	q.tasks[key] = taskLookup{*task, uid}
	q.ofTasks.Add(uid)
	return true
}

// yield makes room for an entry of a user in a full table, if another has more.
func yield[K comparable, V any](table map[K]V, counts share.Counts, uid uint32, userOf func(V) uint32) bool {
	from, is := counts.Yields(uid)
	if !is {
		return false
	}
	for key, value := range table {
		if userOf(value) == from {
			delete(table, key)
			counts.Remove(from)
			return true
		}
	}
	return false
}

type lookup struct {
	key socketKey
	uid uint32
}

func newQuestion() question {
	return question{make(map[uint64]lookup), make(map[event.FlowKey]struct{}), make(map[cgroupKey]taskLookup), share.Counts{}, share.Counts{}}
}

// takePending returns what is to be looked up: sockets and flows only if asked for.
func (o *owners) takePending(sockets bool) question {
	asked := newQuestion()
	asked.tasks, o.pending.tasks = o.pending.tasks, asked.tasks
	asked.ofTasks, o.pending.ofTasks = o.pending.ofTasks, asked.ofTasks
	if sockets {
		asked.sockets, o.pending.sockets = o.pending.sockets, asked.sockets
		asked.flows, o.pending.flows = o.pending.flows, asked.flows
		asked.ofSockets, o.pending.ofSockets = o.pending.ofSockets, asked.ofSockets
	}
	return asked
}

// An answer is the result of a lookup.
type answer struct {
	holders map[uint64][]event.Task          // by inode
	senders map[event.FlowKey][]event.Holder // of flows
	cgroups map[cgroupKey]knownCgroup
	walked  time.Duration // that finding the holders took
}

// lookups read files of other processes, which may take long. Its methods are for one
// goroutine at a time, which may be another than that of the owners.
type lookups struct {
	cgroups  *cgroups
	find     finder
	fallback func(inodes []uint64) ([]event.Holder, error) // which finds no senders of flows
}

type finder func(event.Wanted) ([]event.Holder, error)

func newLookups(find finder) lookups {
	return lookups{
		cgroups:  newCgroups(),
		find:     find,
		fallback: func(inodes []uint64) ([]event.Holder, error) { return scan(procfs.Machine(), inodes) },
	}
}

// run finds holders of sockets, and the cgroups of processes and of the holders that
// started first. After an error it finds no holders.
func (l *lookups) run(asked question) (answer, error) {
	a := answer{holders: make(map[uint64][]event.Task), senders: make(map[event.FlowKey][]event.Holder), cgroups: make(map[cgroupKey]knownCgroup)}
	began := time.Now()
	holders, err := l.holders(&asked)
	a.walked = time.Since(began)
	for _, h := range holders {
		if _, is := asked.sockets[h.Inode]; is {
			a.holders[h.Inode] = append(a.holders[h.Inode], h.Task)
		}
		if _, is := asked.flows[h.Flow]; is {
			a.senders[h.Flow] = append(a.senders[h.Flow], h)
		}
	}
	for key, task := range asked.tasks {
		l.resolve(&a, key, &task.Task)
	}
	for _, tasks := range a.holders {
		owner := choose(tasks, nil)
		l.resolve(&a, keyOf(owner), owner)
	}
	for _, senders := range a.senders {
		first := firstHolder(senders)
		l.resolve(&a, keyOf(&first.Task), &first.Task)
	}
	return a, err
}

func (l *lookups) resolve(a *answer, key cgroupKey, task *event.Task) {
	if _, is := a.cgroups[key]; is {
		return
	}
	cgroup, settled := l.cgroups.find(task)
	a.cgroups[key] = knownCgroup{Cgroup: cgroup, settled: settled}
}

func (l *lookups) holders(asked *question) ([]event.Holder, error) {
	if !asked.walks() {
		return nil, nil
	}
	var w event.Wanted
	for inode := range asked.sockets {
		w.Inodes = append(w.Inodes, inode)
	}
	for key := range asked.flows {
		w.Flows = append(w.Flows, key)
	}
	holders, err := l.find(w)
	switch {
	case !errors.Is(err, errors.ErrUnsupported):
		return holders, err
	case len(w.Inodes) == 0:
		return nil, nil
	}
	return l.fallback(w.Inodes)
}
