package cell

// Paths are the rows, in the order of the driver's own tests.
var Paths = []Path{
	{"completions", "sent, and freed when the backend is done with it: no drop", "stock",
		"thousands of small datagrams and a TCP stream with segmentation offload"},
	{"released", "in flight when the interface is disconnected: freed without a count, no drop", "stock",
		"the backend stops consuming, the ring fills, the device is unbound"},
	{"no_queues", "dropped, `no_queues`", "faults", "the packet finds no transmit queue"},
	{"device_broken", "dropped, `device_broken`", "faults", "the packet finds the device marked as broken"},
	{"too_big", "dropped, `too_big`", "stock", "datagrams of 65,507 bytes, with an MTU of 65,535"},
	{"too_many_slots", "over the limit: dropped, `too_many_slots`", "prefix", "datagrams of 27 slots, the driver as it was before 2014"},
	{"linearized", "over the limit: `linearized` and sent", "stock", "datagrams of 27 slots"},
	{"linearize_failed", "over the limit: dropped, `linearize_failed`", "faults", "datagrams of 27 slots, no memory for the copy"},
	{"linearized_then_dropped", "linearized, then dropped by a later test that still assumes 27 slots: `sg_off`", "faults",
		"datagrams of 27 slots that find scatter-gather off once they are in the driver"},
	{"bounced", "`bounced`: the head begins less than 14 bytes before a page's end; copied and sent", "stock",
		"forwarded frames from a TAP device, their heads moved there by an XDP program"},
	{"bounced_untrusted", "`bounced`, as every packet, since the backend is untrusted: counted, not reported", "stock, trusted=0", "small datagrams"},
	{"bounce_failed", "dropped, `bounce_failed`: a head just before a page's end", "faults", "the same frames as for `bounced`, no memory for the copy"},
	{"bounce_failed_untrusted", "dropped, `bounce_failed`: the backend is untrusted", "faults", "the packet finds its backend untrusted, and no memory for the copy"},
	{"bounced_then_dropped", "bounced, and the copy dropped by a later test that still assumes two slots: `sg_off`", "stock, trusted=0",
		"forwarded frames whose heads straddle a page boundary, scatter-gather off"},
	{"no_carrier", "dropped, `no_carrier`", "faults", "the packet finds the carrier off"},
	{"sg_off", "dropped, `sg_off`: a forwarded frame's head straddles a page boundary", "stock", "frames of 1,400 bytes from a TAP device, scatter-gather off"},
	{"sg_off_local", "dropped, `sg_off`: the small head of a local packet straddles a page boundary", "stock",
		"datagrams of 280 to 340 bytes while 8,000 others lie unread, scatter-gather off"},
	{"needs_gso", "dropped, `needs_gso`", "faults", "TCP segments to be cut by the interface, which find the feature off"},
	{"rejected", "`rejected` by the backend; the driver counts it as sent", "nocheck", "datagrams of 27 slots, a driver that does not look at them"},
}

// PathOf returns the path with that ID.
func PathOf(id string) (Path, bool) {
	for _, p := range Paths {
		if p.ID == id {
			return p, true
		}
	}
	return Path{}, false
}
