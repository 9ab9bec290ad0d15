package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

// A Log is what the kernel log has about the frontend.
type Log struct {
	Counts  map[string]int // of each message, by its name
	Shown   map[string]int // of those, what dmesg prints: the records since the log was last cleared
	Begins  time.Duration  // since the start of the kernel, of the oldest record
	Wrapped bool           // older records were overwritten
	Limited int            // messages that the kernel kept to itself because there were too many
}

type logMessage struct {
	name     string
	parts    []string // any of them
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
		{"too_big", []string{"too big for wire format"}, event.Warn,
			"packets over 65,535 bytes were dropped", tooBig},
		{"misaligned", []string{"misaligned skb allocated"}, event.Warn,
			"the copy of a packet was not aligned, and the packet was dropped", verdict.OfCause(event.BounceFailed).Remedies},
		{noGrants, []string{"can't alloc rx grant refs", "can't alloc tx grant refs"}, event.Fail,
			"grant references are exhausted, so queues could not be set up", []remedy.ID{remedy.Reattach}},
		{"fewer_queues", []string{"only created"}, event.Warn,
			"fewer queues were created than negotiated", []remedy.ID{remedy.LogOfDriver}},
		{"no_queues", []string{": no queues"}, event.Fail,
			"an interface has no queues", verdict.OfCause(event.NoQueues).Remedies},
		{"rx_responses", []string{"rx->offset", "Need more slots", "Too many slots", "Bad rx response id", "Missing extra info", "Invalid extra type", "GSO size must not be zero", "Bad GSO type"}, event.Warn,
			"the backend sent malformed packets, which were dropped on receive", []remedy.ID{remedy.LogOfDriver}},
		{rocket, []string{"skb rides the rocket"}, event.OK, "", nil},
	}
}

// rocket names the message of a packet over the limit. What it means depends on
// the driver.
const rocket = "rides_the_rocket"

// LogRecords are records of the kernel's log as /dev/kmsg has them.
type LogRecords struct {
	All []string
	// Cleared is how many of them came before the log was last cleared (dmesg
	// --clear), which removes nothing but has dmesg print only what came later.
	Cleared int
}

// readLog reads the whole log. It needs CAP_SYSLOG where
// kernel.dmesg_restrict is 1.
func readLog(ctx context.Context) (LogRecords, error) {
	all, err := readLogFrom(ctx, unix.SEEK_SET)
	if err != nil {
		return LogRecords{}, err
	}
	// Where the kernel does not know where it was cleared, it was not.
	shown, err := readLogFrom(ctx, unix.SEEK_DATA)
	if err != nil {
		return LogRecords{All: all}, ctx.Err()
	}
	if len(shown) > 0 {
		if first := slices.Index(all, shown[0]); first >= 0 {
			return LogRecords{all, first}, nil
		}
	}
	return LogRecords{all, len(all)}, nil
}

// readLogFrom reads what follows the place that the seek leads to: SEEK_SET to the
// oldest record, SEEK_DATA to the first since the last SYSLOG_ACTION_CLEAR.
func readLogFrom(ctx context.Context, whence int) ([]string, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/kmsg: %w", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Seek(fd, 0, whence); err != nil {
		return nil, fmt.Errorf("/dev/kmsg: %w", err)
	}
	var records []string
	buffer := make([]byte, 8<<10) // the kernel's limit of one record
	for ctx.Err() == nil {
		n, err := unix.Read(fd, buffer)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // overwritten just now: the next read goes on
		case errors.Is(err, unix.EAGAIN):
			return records, nil
		case err != nil:
			return nil, fmt.Errorf("/dev/kmsg: %w", err)
		case n == 0:
			return records, nil
		default:
			records = append(records, string(buffer[:n]))
		}
	}
	return nil, ctx.Err()
}

func (r *reader) log(ctx context.Context) Known[Log] {
	records, err := r.source.Log(ctx)
	return tried(parseLog(records), err)
}

// parseLog reads records "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT".
func parseLog(records LogRecords) Log {
	log := Log{Counts: map[string]int{}, Shown: map[string]int{}}
	messages := logMessages()
	for n, record := range records.All {
		head, text, _ := strings.Cut(record, ";")
		text, _, _ = strings.Cut(text, "\n") // what follows are properties
		if fields := strings.Split(head, ","); n == 0 && len(fields) > 2 {
			log.Wrapped = fields[1] != "0"
			microseconds, _ := strconv.ParseInt(fields[2], 10, 64)
			log.Begins = time.Duration(microseconds) * time.Microsecond
		}
		for _, message := range messages {
			if slices.ContainsFunc(message.parts, func(part string) bool { return strings.Contains(text, part) }) {
				log.Counts[message.name]++
				if n >= records.Cleared {
					log.Shown[message.name]++
				}
			}
		}
		log.Limited += suppressed(text)
	}
	return log
}

// suppressed is how many network messages the kernel suppressed,
// "net_ratelimit: 5 callbacks suppressed".
func suppressed(text string) int {
	_, rest, is := strings.Cut(text, "net_ratelimit: ")
	number, _, of := strings.Cut(rest, " callbacks suppressed")
	n, err := strconv.Atoi(number)
	if !is || !of || err != nil {
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
