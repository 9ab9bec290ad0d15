package check

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

// A Log is what the kernel log has about the frontend.
type Log struct {
	Counts  map[string]int // of each message of the driver, by its name
	Begins  time.Duration  // since the start of the kernel, of the oldest record
	Wrapped bool           // older records were overwritten
	Limited int            // messages that the kernel kept to itself because there were too many

	// "skb rides the rocket", whoever wrote it, and of those the ones that dmesg prints: the
	// records since the log was last cleared.
	Rockets, RocketsShown int
}

type logMessage struct {
	name     string
	parts    []string // any of them, behind the driver's prefix
	status   event.Status
	means    string
	remedies []remedy.ID
}

const noGrants = "no_grants"

// logMessages are the strings of xen-netfront.ko, 3.7 to 7.3, that report trouble. Which of
// them it can write depends on its age: "rides the rocket" needs dynamic debug since 3.17.
func logMessages() []logMessage {
	broken, tooBig := verdict.OfCause(event.DeviceBroken).Remedies, verdict.OfCause(event.TooBig).Remedies
	return []logMessage{
		{"disabled", []string{"Disabled for further use"}, event.Fail,
			"the frontend disabled an interface because its backend misbehaved", broken},
		{"misbehaviour", []string{"Illegal number of responses", "Response has incorrect id", "Response for inactive request", "Grant still in use by backend domain", "RX producer index going backwards"}, event.Fail,
			"the backend misbehaved", broken},
		{"too_big", []string{"skb->len = "}, event.Warn,
			"packets over 65,535 bytes were dropped", tooBig},
		{"misaligned", []string{misaligned}, event.Warn,
			"the copy of a packet was not aligned, and the packet was dropped", verdict.OfCause(event.BounceFailed).Remedies},
		{noGrants, []string{"can't alloc rx grant refs", "can't alloc tx grant refs"}, event.Fail,
			"grant references are exhausted, so queues could not be set up", []remedy.ID{remedy.Reattach}},
		{"fewer_queues", []string{"only created"}, event.Warn,
			"fewer queues were created than negotiated", []remedy.ID{remedy.LogOfDriver}},
		{"no_queues", []string{"no queues"}, event.Fail,
			"an interface has no queues", verdict.OfCause(event.NoQueues).Remedies},
		{"rx_responses", []string{"rx->offset", "Need more slots", "Too many slots", "Bad rx response id", "Missing extra info", "Invalid extra type", "GSO size must not be zero", "Bad GSO type"}, event.Warn,
			"the backend sent malformed packets, which were dropped on receive", []remedy.ID{remedy.LogOfDriver}},
		{rocket, []string{"skb rides the rocket"}, event.OK, "", nil},
	}
}

// rocket names the message of a packet over the limit. What it means depends on
// the driver.
const rocket = "rides_the_rocket"

func (r *reader) log(ctx context.Context, links *Links) Known[Log] {
	records, err := r.source.Log(ctx)
	return tried(parseLog(records, logDevicesOf(links)), err)
}

// parseLog counts the messages of the driver.
func parseLog(records LogRecords, devices logDevices) Log {
	log := Log{Counts: map[string]int{}}
	messages, prefix := logMessages(), devices.prefix()
	for n, raw := range records.All {
		record := parseLogRecord(raw)
		if n == 0 {
			log.Begins, log.Wrapped = record.at, record.sequence != 0
		}
		if strings.Contains(record.text, "skb rides the rocket") { // what ec2rl looks for
			log.Rockets++
			if n >= records.Cleared {
				log.RocketsShown++
			}
		}
		if !record.ofKernel {
			continue
		}
		log.Limited += suppressed(record.text)
		text, is := prefix(record)
		if !is {
			continue
		}
		for _, message := range messages {
			if slices.ContainsFunc(message.parts, func(part string) bool { return strings.HasPrefix(text, part) }) {
				log.Counts[message.name]++
			}
		}
	}
	return log
}

// suppressed is how many network messages the kernel suppressed,
// "net_ratelimit: 5 callbacks suppressed".
func suppressed(text string) int {
	rest, is := strings.CutPrefix(text, "net_ratelimit: ")
	number, of := strings.CutSuffix(rest, " callbacks suppressed")
	n, err := strconv.Atoi(number)
	if !is || !of || err != nil || n < 0 {
		return 0
	}
	return n
}

func (m *Machine) kernelLog() event.Finding {
	f := event.Finding{ID: KernelLog}
	if m.Log.Missing != "" {
		f.Status, f.Message = event.Unknown, "The kernel log cannot be read: "+m.Log.Missing+". Current drivers do not log drops."
		return f
	}
	log := &m.Log.Value
	f.Evidence = log.evidence()
	var found []string
	for _, message := range logMessages() {
		count := log.Counts[message.name]
		if message.name == rocket {
			message = m.rocketMessage(message)
		}
		if count == 0 {
			continue
		}
		found = append(found, fmt.Sprintf("%s (%d)", message.means, count))
		f.Status = max(f.Status, message.status)
		if len(f.Advice) == 0 {
			f.Advice = m.adviseAll(message.remedies...)
		}
	}
	if len(found) == 0 {
		f.Message = "No known message of xen-netfront in the kernel log. Current drivers do not log drops."
	} else {
		f.Message = "Kernel log: " + strings.Join(found, "; ") + "."
	}
	f.Message += log.caveats()
	return f
}

// rocketMessage says what the message of packets over the limit means with this
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
