package check

import (
	"regexp"
	"slices"
	"strconv"
)

// logDevices are the interfaces of the driver, by name and by place, see [logRecord].
type logDevices map[string]bool

func logDevicesOf(links *Links) logDevices {
	devices := logDevices{}
	for _, i := range slices.Concat(links.Judged, links.Others) {
		if i.IsNetfront() {
			devices[i.Name], devices["net n"+strconv.Itoa(i.Index)] = true, true
		}
	}
	return devices
}

// unprefixed are warnings of the driver and of XDP, which are whole records.
var unprefixed = []string{"misaligned skb allocated", "Driver BUG: missing reserved tailroom"}

// prefix returns a function that cuts the driver's prefix, and an error number, off the
// text of a record, and reports false of a text that is not the driver's. Users can have
// text of theirs written to the kernel log, as with mount options, but not at its
// beginning, and not with the device that the kernel adds.
func (d logDevices) prefix() func(*logRecord) (string, bool) {
	// Dynamic debug can put the thread, module, function and line in front.
	module := regexp.MustCompile(`^(?:\[\d+\] |<intr> )?(?:xen_netfront|xennet|xennet_\w+):(?: ?(?:xen_netfront|xennet|xennet_\w+|\d+):)* ?(.*)$`)
	frontend := regexp.MustCompile(`^vif (vif-\d+)(?: [^\s:]+)?(?: \([\w ]+\))?: (?:-?\d+ )?(.*)$`)
	network := regexp.MustCompile(`^net ([^\s:]+)(?: \([\w ]+\))?: (.*)$`)
	return func(r *logRecord) (string, bool) {
		if m := module.FindStringSubmatch(r.text); m != nil {
			return m[1], true
		}
		if m := frontend.FindStringSubmatch(r.text); m != nil {
			return m[2], r.place == "xen +xen:"+m[1]
		}
		if m := network.FindStringSubmatch(r.text); m != nil { // an interface may have been renamed since
			return m[2], r.index != 0 && r.place == "net n"+strconv.Itoa(r.index) && (d[m[1]] || d[r.place])
		}
		return r.text, slices.Contains(unprefixed, r.text)
	}
}
