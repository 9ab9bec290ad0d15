package netdev

import "fmt"

// EventKind is what happened to an interface.
type EventKind int

// The kinds of events.
const (
	// Appeared: the interface existed when the watch began, was created, or moved in.
	Appeared EventKind = iota + 1
	// Renamed: Previous holds the former name.
	Renamed
	// Changed: MTU, flags or hardware address; Previous holds the former state.
	Changed
	// Disappeared: the interface was deleted, or its namespace was.
	Disappeared
	// Moved: the interface moved to another namespace, To if known.
	Moved
	// Synced: all existing interfaces have been reported. The first follows the
	// interfaces that existed when the watch began. Later ones have Lost set:
	// notifications were lost and all interfaces were read again, which misses
	// interfaces that appeared and disappeared meanwhile.
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
	Interface Interface // current state; the last known one after it disappeared
	Previous  Interface // of Renamed and Changed
	To        uint32    // of Moved: its new namespace, 0 if unknown
	ToIndex   int       // of Moved: its index there, 0 if unknown
	Lost      bool      // of Synced
	Err       error     // of Failed
}
