package netdev

import "fmt"

// EventKind tells what happened to an interface.
type EventKind int

// The kinds of events.
const (
	// Appeared: the interface is there: it was when the watch began, was made, or moved in.
	Appeared EventKind = iota + 1
	// Renamed: Previous holds what it was called before.
	Renamed
	// Changed: MTU, flags or hardware address; Previous holds the former state.
	Changed
	// Disappeared: the interface was deleted, or its namespace went.
	Disappeared
	// Moved: the interface went to another namespace, To if that is known.
	Moved
	// Synced: every interface that exists has been told by now. The first comes
	// after the interfaces that were there when the watch began. A later one has
	// Lost set: notifications were lost, what they would have told was found by
	// looking again, but an interface that came and went meanwhile stays unseen.
	Synced
	// Failed: the watch of this namespace ended, Err says why.
	Failed
)

// String returns the kind in words.
func (k EventKind) String() string {
	names := [...]string{Appeared: "appeared", Renamed: "renamed", Changed: "changed",
		Disappeared: "disappeared", Moved: "moved", Synced: "synced", Failed: "failed"}
	if k < Appeared || int(k) >= len(names) {
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
	return names[k]
}

// Event is one thing that happened in a namespace.
type Event struct {
	Kind      EventKind
	Namespace uint32
	Interface Interface // as it is now; as it was last seen if it is gone
	Previous  Interface // of Renamed and Changed
	To        uint32    // of Moved: the namespace it went to, 0 if that could not be found out
	ToIndex   int       // of Moved: its index there, 0 where the kernel does not tell
	Lost      bool      // of Synced
	Err       error     // of Failed
}
