package output

import (
	"fmt"
	"time"

	"xentrace/internal/event"
)

// Notify writes a notice as a sentence.
func (c *Console) Notify(n event.Notice) { c.Say(Sentence(&n)) }

// reasonSentences are those that end in the reason.
var reasonSentences = map[event.NoticeID]string{
	event.NoticeUnmonitored:            "packets are no longer counted: ",
	event.NoticeStacksUnavailable:      "no stacks: ",
	event.NoticeDropStacksUnavailable:  "no stacks for drops outside the driver: ",
	event.NoticeRejectedUnavailable:    "rejected packets are not counted: ",
	event.NoticeSuspendUnavailable:     "suspend/resume will not be detected: ",
	event.NoticeQueuesUnavailable:      "stuck queues will no longer be detected: ",
	event.NoticeConnectionsUnavailable: "state of connections after a drop is unknown: ",
	event.NoticeDriverAttachFailed:     "xen-netfront is loaded again; cannot attach to it yet: ",
	event.NoticeDriverDetachFailed:     "cannot detach from xen-netfront: ",
	event.NoticeDriverUnknown:          "the xen-netfront that was loaded cannot be examined: ",
}

// Sentence is a notice for people; empty for an ID that is unknown.
func Sentence(n *event.Notice) string {
	if sentence := reasonSentences[n.ID]; sentence != "" {
		return sentence + n.Reason
	}
	lasted := time.Duration(n.DurationMS) * time.Millisecond
	switch n.ID {
	case event.NoticeWaiting:
		return "waiting for an interface to appear"
	case event.NoticeSuspended:
		return fmt.Sprintf("machine was suspended, or saved and restored, for %s; that time is not in the duration", Seconds(lasted))
	case event.NoticeClockStep:
		return fmt.Sprintf("wall clock was set by %+.1f s; timestamps jump by that much, durations are not affected", float64(n.StepMS)/1000)
	case event.NoticeDriverUnloaded:
		return "xen-netfront was unloaded; nothing is counted until it is loaded again"
	case event.NoticeDriverReloaded:
		return fmt.Sprintf("xen-netfront is loaded again and watched; nothing was counted for %s", Seconds(lasted))
	case event.NoticeDriverHeld:
		return "no xen-netfront interface is left, and this trace holds the driver's module; stop it to unload the driver (--backend kprobe without --rejected does not hold it)"
	case event.NoticeLinearize:
		return linearizeSentence(n)
	}
	return sentenceOfInterface(n)
}

func sentenceOfInterface(n *event.Notice) string {
	name := Escape(n.Device.Name)
	lasted := (time.Duration(n.DurationMS) * time.Millisecond).Round(time.Second)
	switch n.ID {
	case event.NoticeInterfaceAdded:
		return fmt.Sprintf("interface %s appeared and is watched", name)
	case event.NoticeInterfaceRemoved:
		return fmt.Sprintf("interface %s is gone", name)
	case event.NoticeInterfaceRenamed:
		return fmt.Sprintf("interface %s is now called %s", Escape(n.Previous), name)
	case event.NoticeInterfaceMoved:
		return fmt.Sprintf("interface %s moved to another network namespace", name)
	case event.NoticeInterfaceUnsupported:
		driver := n.Driver
		if driver == "" {
			driver = "the kernel itself"
		}
		return fmt.Sprintf("interface %s is driven by %s, which backend %s does not support; use --backend tracepoint", name, driver, n.Backend)
	case event.NoticeInterfaceFailed:
		return fmt.Sprintf("interface %s is not counted separately: %s", name, n.Reason)
	case event.NoticeNamespaceUnwatched:
		return fmt.Sprintf("interfaces of network namespace %d are no longer followed: %s", n.NetNS, n.Reason)
	case event.NoticeQueueStuck:
		return fmt.Sprintf("%s: transmit queue %d has been full for %s and the backend accepts nothing from it; netback does this once it has disabled the interface (dom0's log: \"fatal error; disabling device\"); reconnect it in dom0: xl network-detach, xl network-attach",
			name, queueNumber(n), wholeSeconds(lasted))
	case event.NoticeQueueRecovered:
		return fmt.Sprintf("%s: transmit queue %d recovered after %s", name, queueNumber(n), wholeSeconds(lasted))
	}
	return ""
}

func linearizeSentence(n *event.Notice) string {
	switch {
	case n.Linearizes == nil:
		return "unknown whether the driver linearizes, so the cause of drops over the slot limit is unknown: " + n.Evidence
	case *n.Linearizes:
		return "driver linearizes packets over the slot limit (18): " + n.Evidence
	}
	return "driver drops packets over the slot limit (18): " + n.Evidence
}

func queueNumber(n *event.Notice) int {
	if n.Queue == nil {
		return 0
	}
	return *n.Queue
}

func wholeSeconds(d time.Duration) string { return fmt.Sprintf("%d s", d/time.Second) }
