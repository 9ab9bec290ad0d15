package exporter

import (
	"slices"
	"strings"
)

// families are all metrics, as docs/metrics.md describes them.
type families struct {
	all []*family // by name

	packets, bytes, dropped, linearized, bounced, rejected, elsewhere, slots, xdp, xdpDropped *family
	txDropped, stalled, stalls, stuck, present                                                *family

	linearizes, status, checked *family

	build, backend, attached, hooks, hooksMissing, lost, unmonitored, notices *family
	paused, without, suppressed, failures                                     *family

	occupancy, stops, full, completion      *family
	accepts, accept, overflows, listenDrops *family
}

func newFamilies() *families {
	f := &families{}
	f.ofInterfaces()
	f.ofCheck()
	f.ofItself()
	f.ofCongestion()
	slices.SortFunc(f.all, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	for i := range f.all {
		f.all[i].number = i
	}
	return f
}

func (f *families) add(name, help string, labels ...string) *family {
	one := newFamily("xentrace_"+name, help, labels...)
	f.all = append(f.all, one)
	return one
}

func (f *families) ofInterface(name, help string, more ...string) *family {
	return f.add(name, help, append(more, "netns", "device")...)
}

func (f *families) ofInterfaces() {
	f.packets = f.ofInterface("packets_total", "Packets handed to the driver.")
	f.bytes = f.ofInterface("bytes_total", "Bytes of packets handed to the driver.")
	f.dropped = f.ofInterface("dropped_packets_total", "Packets that the driver dropped.", "cause")
	f.linearized = f.ofInterface("linearized_packets_total", "Packets over the slot limit that were linearized and sent.")
	f.bounced = f.ofInterface("bounced_packets_total", "Packets that were copied because of where the head starts, or an untrusted backend, and sent.")
	f.rejected = f.ofInterface("rejected_packets_total", "Packets that the backend rejected after the driver counted them as sent.")
	f.elsewhere = f.ofInterface("elsewhere_dropped_packets_total", "Packets dropped outside the driver.", "reason")
	f.xdp = f.ofInterface("xdp_packets_total", "Frames that XDP programs sent, which are not among the packets.")
	f.xdpDropped = f.ofInterface("xdp_dropped_packets_total", "Frames of XDP programs that the driver did not accept.")
	f.slots = f.ofInterface("slots", "TX ring slots per packet.")
	f.txDropped = f.ofInterface("device_tx_dropped_total", "What the interface's own tx_dropped moved by since the exporter attached.")
	f.stalled = f.ofInterface("stalled_connections", "TCP connections that are stalled now.")
	f.stalls = f.ofInterface("stalls_total", "TCP connections that became stalled.")
	f.stuck = f.ofInterface("queue_stuck_seconds_total", "Seconds in which the backend did not serve a full TX queue.")
	f.present = f.ofInterface("interface_present", "Whether the interface is there and watched.")
}

func (f *families) ofCheck() {
	f.linearizes = f.ofInterface("driver_linearizes", "Whether the driver linearizes packets over the slot limit.")
	f.status = f.ofInterface("check_status", "Status of a finding of xentrace check: 0 OK, 1 WARN, 2 FAIL, 3 UNKNOWN.", "id")
	f.checked = f.add("check_timestamp_seconds", "When xentrace check ran last, as Unix time.")
}

func (f *families) ofItself() {
	f.build = f.add("build_info", "Build of the exporter.", "version", "commit", "goversion")
	f.backend = f.add("backend_info", "Backend in use.", "backend")
	f.attached = f.add("attached", "Whether the hooks are attached; 0 while waiting for an interface.")
	f.hooks = f.add("hooks_attached", "Hooks attached now.")
	f.hooksMissing = f.add("hooks_missing", "Hooks that should be attached and are not.")
	f.lost = f.add("lost_records_total", "Records, flows and packets that xentrace lost or suppressed.", "reason")
	f.unmonitored = f.add("unmonitored_seconds_total", "Seconds in which packets were not counted.")
	f.notices = f.add("notices_total", "Notices of xentrace about its run.", "id")
	f.paused = f.add("recording_paused", "Whether the recording is paused.")
	f.without = f.add("interfaces_without_series", "Interfaces counted in device (others).")
	f.suppressed = f.add("series_suppressed", "Series left out because of a limit.")
	f.failures = f.add("collect_errors_total", "Scrapes whose counts could not be read in time.")
}

func (f *families) ofCongestion() {
	f.occupancy = f.ofInterface("ring_occupancy_slots", "TX ring slots in use when a packet came.")
	f.stops = f.ofInterface("queue_stops_total", "How often the driver stopped a TX queue because the ring was full.")
	f.full = f.ofInterface("queue_full_seconds_total", "Seconds for which a TX queue was stopped because the ring was full.")
	f.completion = f.ofInterface("tx_completion_seconds", "Time from the driver to the TX response, of 1 packet in 17.")
	f.accepts = f.add("accepts_total", "Connections that applications accepted.", "netns")
	f.accept = f.add("accept_seconds", "Time from the SYN-ACK to the accept.", "netns")
	f.overflows = f.add("listen_overflows_total", "Connections that found the accept queue full.", "netns")
	f.listenDrops = f.add("listen_drops_total", "Connections dropped for a listener.", "netns")
}
