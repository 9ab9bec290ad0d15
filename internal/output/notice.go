package output

import (
	"fmt"
	"time"

	"xentrace/internal/event"
)

// Notify writes a notice as a sentence.
func (c *Console) Notify(n event.Notice) { c.Say(Sentence(&n)) }

// Sentence is a notice for people; empty for an ID that is unknown.
func Sentence(n *event.Notice) string {
	if sentence := sentenceOfInterface(n); sentence != "" {
		return sentence
	}
	if sentence := sentenceOfDriver(n); sentence != "" {
		return sentence
	}
	lasted := time.Duration(n.DurationMS) * time.Millisecond
	switch n.ID {
	case event.NoticeWaiting:
		return "waiting for an interface to appear"
	case event.NoticeUnmonitored:
		return "packets are no longer counted: " + n.Reason
	case event.NoticeSuspended:
		return fmt.Sprintf("machine was suspended, or saved and restored, for %s; that time is not in the duration", Seconds(lasted))
	case event.NoticeClockStep:
		return fmt.Sprintf("wall clock was set by %+.1f s; timestamps jump by that much, durations are not affected", float64(n.StepMS)/1000)
	case event.NoticeStacksUnavailable:
		return "no stacks: " + n.Reason
	case event.NoticeDropStacksUnavailable:
		return "no stacks for drops outside the driver: " + n.Reason
	case event.NoticeRejectedUnavailable:
		return "rejected packets are not counted: " + n.Reason
	case event.NoticeSuspendUnavailable:
		return "suspend/resume will not be detected: " + n.Reason
	case event.NoticeQueuesUnavailable:
		return "stuck queues will no longer be detected: " + n.Reason
	case event.NoticeConnectionsUnavailable:
		return "state of connections after a drop is unknown: " + n.Reason
	}
	return ""
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

func sentenceOfDriver(n *event.Notice) string {
	switch n.ID {
	case event.NoticeDriverUnloaded:
		return "xen-netfront was unloaded; nothing is counted until it is loaded again"
	case event.NoticeDriverReloaded:
		return fmt.Sprintf("xen-netfront is loaded again and watched; nothing was counted for %s", Seconds(time.Duration(n.DurationMS)*time.Millisecond))
	case event.NoticeDriverAttachFailed:
		return "xen-netfront is loaded again; cannot attach to it yet: " + n.Reason
	case event.NoticeDriverDetachFailed:
		return "cannot detach from xen-netfront: " + n.Reason
	case event.NoticeSettleFailed:
		return "packets over the limit that are not dropped may be reported late: " + n.Reason
	case event.NoticeDriverUnknown:
		return "the xen-netfront that was loaded cannot be examined: " + n.Reason
	case event.NoticeDriverHeld:
		return "no xen-netfront interface is left, and this trace holds the driver's module; stop it to unload the driver (--backend kprobe without --rejected does not hold it)"
	case event.NoticeLinearize:
		return linearizeSentence(n)
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
