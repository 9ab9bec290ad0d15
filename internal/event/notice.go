package event

import "time"

// A Notice is something about the run itself that a user should know.
type Notice struct {
	Time time.Time `json:"time"`
	ID   NoticeID  `json:"id"`

	Device // the interface; its NetNS alone for a network namespace

	Previous   string  `json:"previous,omitempty"`    // the interface's name before
	Driver     string  `json:"driver,omitempty"`      // of the interface; empty for the kernel's own
	Backend    Backend `json:"backend,omitempty"`     // in use
	Queue      *int    `json:"queue,omitempty"`       // transmit queue
	Linearizes *bool   `json:"linearizes,omitempty"`  // nil: unknown
	Evidence   string  `json:"evidence,omitempty"`    // what shows that
	DurationMS int64   `json:"duration_ms,omitempty"` // how long it lasted, or has lasted
	StepMS     int64   `json:"step_ms,omitempty"`     // how far the wall clock was set, forward if > 0
	Count      uint64  `json:"count,omitempty"`       // of records
	Reason     string  `json:"reason,omitempty"`      // why something failed or is not available
}

// A NoticeID names what a notice is about. Scripts rely on it.
type NoticeID string

// The notices.
const (
	// NoticeWaiting: no interface is there yet.
	NoticeWaiting NoticeID = "waiting"

	// Of interfaces. InterfaceUnsupported has Driver and Backend; InterfaceFailed, of one
	// that cannot be counted apart, and NamespaceUnwatched have a Reason.
	NoticeInterfaceAdded       NoticeID = "interface_added"
	NoticeInterfaceRemoved     NoticeID = "interface_removed"
	NoticeInterfaceRenamed     NoticeID = "interface_renamed"
	NoticeInterfaceMoved       NoticeID = "interface_moved"
	NoticeInterfaceUnsupported NoticeID = "interface_unsupported"
	NoticeInterfaceFailed      NoticeID = "interface_failed"
	NoticeNamespaceUnwatched   NoticeID = "namespace_unwatched"

	// Of the driver's module. DriverReloaded has the unmonitored time as DurationMS;
	// the failures have a Reason.
	NoticeDriverUnloaded     NoticeID = "driver_unloaded"
	NoticeDriverReloaded     NoticeID = "driver_reloaded"
	NoticeDriverAttachFailed NoticeID = "driver_attach_failed"
	NoticeDriverDetachFailed NoticeID = "driver_detach_failed"
	NoticeDriverUnknown      NoticeID = "driver_unknown"
	NoticeSettleFailed       NoticeID = "settle_failed"
	NoticeDriverHeld         NoticeID = "driver_held"
	NoticeLinearize          NoticeID = "linearize"

	// NoticeUnmonitored: packets are not counted from now on, for a Reason.
	NoticeUnmonitored NoticeID = "unmonitored"

	NoticeSuspended NoticeID = "suspended"
	NoticeClockStep NoticeID = "clock_step"

	// A transmit queue that the backend accepts nothing from.
	NoticeQueueStuck     NoticeID = "queue_stuck"
	NoticeQueueRecovered NoticeID = "queue_recovered"

	// Of a recording: writing paused or resumed (DurationMS: how long nothing was written),
	// records held back by a rate limit (Count), and damage that a reader found (Reason).
	NoticeRecordingPaused   NoticeID = "recording_paused"
	NoticeRecordingResumed  NoticeID = "recording_resumed"
	NoticeRecordsSuppressed NoticeID = "records_suppressed"

	// What is not measured, with the Reason.
	NoticeStacksUnavailable      NoticeID = "stacks_unavailable"
	NoticeDropStacksUnavailable  NoticeID = "drop_stacks_unavailable"
	NoticeRejectedUnavailable    NoticeID = "rejected_unavailable"
	NoticeSuspendUnavailable     NoticeID = "suspend_unavailable"
	NoticeQueuesUnavailable      NoticeID = "queues_unavailable"
	NoticeConnectionsUnavailable NoticeID = "connections_unavailable"
	NoticeOwnersUnavailable      NoticeID = "owners_unavailable"
)

// NoticeIDs lists every id.
func NoticeIDs() []NoticeID {
	return []NoticeID{
		NoticeWaiting, NoticeInterfaceAdded, NoticeInterfaceRemoved, NoticeInterfaceRenamed,
		NoticeInterfaceMoved, NoticeInterfaceUnsupported, NoticeInterfaceFailed, NoticeNamespaceUnwatched,
		NoticeDriverUnloaded, NoticeDriverReloaded, NoticeDriverAttachFailed, NoticeDriverDetachFailed,
		NoticeDriverUnknown, NoticeSettleFailed, NoticeDriverHeld, NoticeLinearize,
		NoticeUnmonitored, NoticeSuspended, NoticeClockStep, NoticeQueueStuck,
		NoticeQueueRecovered, NoticeRecordingPaused, NoticeRecordingResumed, NoticeRecordsSuppressed,
		NoticeStacksUnavailable, NoticeDropStacksUnavailable, NoticeRejectedUnavailable, NoticeSuspendUnavailable,
		NoticeQueuesUnavailable, NoticeConnectionsUnavailable, NoticeOwnersUnavailable,
	}
}
