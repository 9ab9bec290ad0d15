package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

type logMessage struct {
	name     string
	parts    []string // any of them, behind the driver's prefix
	status   event.Status
	means    string
	remedies []remedy.ID
	ofVif    bool // other drivers have the same words: only of a device vif
}

// matches takes the text without its prefix, and with it.
func (m *logMessage) matches(text, whole string) bool {
	return beginsWithAny(text, m.parts) && (!m.ofVif || strings.HasPrefix(whole, "vif "))
}

const (
	noGrants    = "no_grants"
	rxResponses = "rx_responses"
	rxExtraInfo = "rx_extra_info"
	rxGSO       = "rx_gso"
	// rocket names the message of a packet over the limit. What it means depends on the driver.
	rocket = "rides_the_rocket"
)

// received are the messages about packets that the backend sent.
var received = []string{rxResponses, rxExtraInfo, rxGSO}

// logMessages are the strings of xen-netfront.ko, 3.7 to 7.3, that report trouble. Which of
// them it can write depends on its age: "rides the rocket" needs dynamic debug since 3.17.
func logMessages() []logMessage {
	broken, tooBig := verdict.OfCause(event.DeviceBroken).Remedies, verdict.OfCause(event.TooBig).Remedies
	look := []remedy.ID{remedy.LogOfDriver}
	return []logMessage{
		{name: "disabled", parts: []string{"Disabled for further use"}, status: event.Fail,
			means: "the frontend disabled an interface because its backend misbehaved", remedies: broken},
		{name: "misbehaviour", parts: []string{"Illegal number of responses", "Response has incorrect id", "Response for inactive request", "Grant still in use by backend domain", "warning -- grant still in use by backend domain", "RX producer index going backwards"}, status: event.Fail,
			means: "the backend misbehaved", remedies: broken},
		{name: noGrants, parts: []string{"can't alloc rx grant refs", "can't alloc tx grant refs"}, status: event.Fail,
			means: "grant references were exhausted, so queues could not be set up", remedies: []remedy.ID{remedy.GrantFrames, remedy.FewerQueues}},
		{name: "no_queues", parts: []string{"no queues"}, status: event.Fail, ofVif: true,
			means: "an interface got no queues", remedies: verdict.OfCause(event.NoQueues).Remedies},
		{name: "connect_failed", parts: []string{"creating netdev", "creating queues", "starting transaction", "completing transaction", "writing ", "out of memory while writing ring references", "parsing ", "allocating tx ring page", "allocating rx ring page", "granting access to ring page", "allocating event channel", "can't allocate page pool", "xdp_rxq_info_reg"}, status: event.Fail, ofVif: true,
			means: "connecting an interface to its backend failed", remedies: []remedy.ID{remedy.LogOfDriver, remedy.Reattach}},
		{name: "not_registered", parts: []string{"register_netdev err="}, status: event.Fail,
			means: "an interface could not be registered", remedies: look},
		{name: "no_rx_copy", parts: []string{"backend does not support copying receive path"}, status: event.Fail,
			means: "a backend is too old for this driver: it does not copy received packets", remedies: []remedy.ID{remedy.LogOfDriver, remedy.UpdateBackend}},
		{name: "fewer_queues", parts: []string{"only created"}, status: event.Warn, ofVif: true,
			means: "fewer queues were created than negotiated", remedies: look},
		{name: "too_big", parts: []string{"skb->len = "}, status: event.Warn,
			means: "packets over 65,535 bytes were dropped", remedies: tooBig},
		{name: "misaligned", parts: []string{"misaligned skb allocated"}, status: event.Warn,
			means: "the copy of a packet was not aligned, and the packet was dropped", remedies: append(look, verdict.OfCause(event.BounceFailed).Remedies...)},
		{name: rxResponses, parts: []string{"rx->offset", "Need more slots", "Too many slots", "Bad rx response id"}, status: event.Warn,
			means: "the backend sent packets with bad offsets, ids or slot counts, which were dropped on receive", remedies: []remedy.ID{remedy.LogOfDriver, remedy.UpdateBackend}},
		{name: rxExtraInfo, parts: []string{"Missing extra info", "Invalid extra type"}, status: event.Warn,
			means: "the backend sent packets with bad extra info, which were dropped on receive", remedies: []remedy.ID{remedy.LogOfDriver, remedy.UpdateBackend}},
		{name: rxGSO, parts: []string{"GSO size must not be zero", "Bad GSO type"}, status: event.Warn,
			means: "the backend sent large packets with bad GSO fields, which were dropped on receive", remedies: []remedy.ID{remedy.LogOfDriver, remedy.UpdateBackend}},
		{name: "xdp_failed", parts: []string{"Error writing xdp-headroom", "Driver BUG: missing reserved tailroom"}, status: event.Warn,
			means: "XDP failed on an interface", remedies: look},
		{name: "xdp_refused", parts: []string{"XDP requires MTU less than"}, status: event.OK,
			means: "an XDP program was refused because the MTU is too large for it"},
		{name: "mtu_reduced", parts: []string{"Reducing MTU because no SG offload"}, status: event.OK,
			means: "the MTU was reduced to 1500 when scatter-gather went off"},
		{name: "copies", parts: []string{"bouncing transmitted data to zeroed pages"}, status: event.OK,
			means: "an interface copies every packet because its backend is untrusted"},
		{name: rocket, parts: []string{"skb rides the rocket"}},
	}
}

func (m *Machine) kernelLog() event.Finding {
	f := event.Finding{ID: KernelLog}
	if m.Log.Missing != "" {
		f.Status, f.Message = event.Unknown, "The kernel log cannot be read: "+m.Log.Missing+". Current drivers do not log drops."
		return f
	}
	log := &m.Log.Value
	f.Evidence = log.evidence()
	var present, past []string
	for _, message := range logMessages() {
		if message.name == rocket {
			message = m.rocketMessage(message)
		}
		if now, before := m.entries(message.name, true), m.entries(message.name, false); len(now) > 0 {
			present = append(present, message.means+m.where(now))
			f.Status = max(f.Status, message.status)
			if len(f.Advice) == 0 {
				f.Advice = m.adviseAll(message.remedies...)
			}
		} else if len(before) > 0 {
			past = append(past, message.means+m.where(before))
		}
	}
	switch {
	case len(present) > 0:
		f.Message = "Kernel log: " + strings.Join(present, "; ") + "."
	case len(past) > 0:
		f.Message = "No known message of xen-netfront in the kernel log about an interface as it is now. Current drivers do not log drops."
	default:
		f.Message = "No known message of xen-netfront in the kernel log. Current drivers do not log drops."
	}
	if len(past) > 0 {
		f.Message += " Before the interface was connected anew: " + strings.Join(past, "; ") + "."
	}
	f.Message += log.caveats()
	return f
}

// entries are those of a message that are about an interface in its present life, or not.
func (m *Machine) entries(name string, present bool) []LogEntry {
	var some []LogEntry
	for _, e := range m.Log.Value.Entries {
		if e.Message == name && m.isPresent(&e) == present {
			some = append(some, e)
		}
	}
	return some
}

// isPresent compares a message with the interface's present life. Indices are not used again, and
// an interface that was disabled sends nothing until it is connected anew.
func (m *Machine) isPresent(e *LogEntry) bool {
	if slices.Contains([]string{rocket, "too_big", "misaligned"}, e.Message) { // whatever the connection
		return true
	}
	if e.Last < m.Log.Value.Attached {
		return false
	}
	if e.Device == "" || m.Unseen != "" {
		return true
	}
	for _, interfaces := range [][]Interface{m.Interfaces, m.Others} {
		for n := range interfaces {
			i := &interfaces[n]
			if e.Index != 0 && e.Index != i.Index || e.Index == 0 && e.Device != i.Name && e.Device != i.BusInfo {
				continue
			}
			c := &i.Counters.Value
			return e.Message != "disabled" && e.Message != "misbehaviour" || c.Later.TxPackets <= c.TxPackets
		}
	}
	return e.Index == 0 && slices.Contains(m.Vifs, e.Device) // which has no interface
}

// where is how often, about which interface and when.
func (m *Machine) where(entries []LogEntry) string {
	count, last := 0, entries[0]
	for _, e := range entries {
		count += e.Count
		if e.Last >= last.Last {
			last = e
		}
	}
	text := fmt.Sprintf(" (%d", count)
	if last.Device != "" {
		text += ", " + last.Device
	}
	switch ago := m.Uptime - last.Last; {
	case m.Uptime == 0 || ago < 0:
		text += ", " + span(last.Last) + " after boot"
	default:
		text += ", " + span(ago) + " ago"
	}
	return text + ")"
}

// rocketMessage reports what the message of packets over the limit means with this
// driver.
func (m *Machine) rocketMessage(message logMessage) logMessage {
	switch m.Code.linearizes() {
	case netfront.Linearizes:
		message.means = "packets over 18 slots were linearized and sent (harmless)"
	case netfront.Drops:
		message.status = event.Fail
		message.means = "packets over 18 slots were dropped"
		message.remedies = verdict.OfCause(event.TooManySlots).Remedies
	default:
		message.status = event.Warn
		message.means = "packets over 18 slots were seen; whether they were dropped depends on the driver"
		message.remedies = []remedy.ID{remedy.WatchDriver}
	}
	return message
}

func (l *Log) caveats() string {
	text := ""
	if l.Wrapped {
		text += fmt.Sprintf(" Its oldest message is from %s after boot; older ones were overwritten.", span(l.Begins))
	}
	if l.Limited > 0 {
		text += fmt.Sprintf(" The kernel suppressed %d network messages (rate limit).", l.Limited)
	}
	return text
}

func (l *Log) evidence() []event.Fact {
	var facts []event.Fact
	for _, message := range logMessages() {
		facts = append(facts, event.Fact{Key: message.name, Value: l.Counts[message.name]})
	}
	return append(facts, event.Fact{Key: "suppressed", Value: l.Limited}, event.Fact{Key: "wrapped", Value: l.Wrapped})
}

// logged is how often the log has messages about an interface as it is now, and the last of them.
func (m *Machine) logged(i *Interface, names []string) (count int, last time.Duration) {
	for _, e := range m.Log.Value.Entries {
		mine := e.Device == i.Name || e.Device == i.BusInfo || e.Device == ""
		if slices.Contains(names, e.Message) && mine && m.isPresent(&e) {
			count, last = count+e.Count, max(last, e.Last)
		}
	}
	return count, last
}
