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
	"xentrace/internal/verdict"
)

// A Log is what the kernel's log says of the frontend.
type Log struct {
	Counts  map[string]int // of each message, by its name
	Shown   map[string]int // of those, what dmesg prints: the records since the log was last cleared
	Begins  time.Duration  // since the start of the kernel, of the oldest record
	Wrapped bool           // older records were overwritten
	Limited int            // messages that the kernel kept to itself because there were too many
}

// A logMessage is one that tells of trouble with the frontend.
type logMessage struct {
	name   string
	parts  []string // any of them
	status event.Status
	means  string
	advice func() []event.Advice
}

// logMessages are those of xen-netfront, 3.7 to 7.3. Which it can write at all
// depends on its age: "rides the rocket" needs dynamic debug since 2014.
func logMessages() []logMessage {
	ofCause := func(c event.Cause) func() []event.Advice {
		return func() []event.Advice { return verdict.OfCause(c).Advice }
	}
	return []logMessage{
		{"disabled", []string{"Disabled for further use"}, event.Fail,
			"the frontend disabled an interface for good, because its backend misbehaved", ofCause(event.DeviceBroken)},
		{"misbehaviour", []string{"Illegal number of responses", "Response has incorrect id", "Response for inactive request", "Grant still in use by backend domain", "RX producer index going backwards"}, event.Fail,
			"the backend misbehaved", ofCause(event.DeviceBroken)},
		{"too_big", []string{"too big for wire format"}, event.Warn,
			"packets of more than 65535 bytes were dropped", ofCause(event.TooBig)},
		{"misaligned", []string{"misaligned skb allocated"}, event.Warn,
			"a copy of a packet was not aligned, and packets are dropped for it", ofCause(event.BounceFailed)},
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
	if err != nil {
		return missing[Log](why(err))
	}
	return known(parseLog(records))
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
			if message.in(text) {
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

func (l *logMessage) in(text string) bool {
	for _, part := range l.parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// suppressed is how many of the network's messages the kernel says it left out,
// "net_ratelimit: 5 callbacks suppressed".
func suppressed(text string) int {
	_, rest, is := strings.Cut(text, "net_ratelimit: ")
	number, _, of := strings.Cut(rest, " callbacks suppressed")
	if !is || !of {
		return 0
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

func (m *Machine) kernelLog() event.Finding {
	f := event.Finding{ID: KernelLog}
	if m.Log.Missing != "" {
		f.Status = event.Unknown
		f.Message = "The kernel's log cannot be read: " + m.Log.Missing + ". Today's drivers write nothing there of the packets they drop."
		return f
	}
	log := &m.Log.Value
	f.Evidence = log.evidence()
	var told []string
	for _, message := range logMessages() {
		count := log.Counts[message.name]
		if message.name == rocket {
			message = m.rocketMessage(message)
		}
		if count == 0 {
			continue
		}
		told = append(told, fmt.Sprintf("%s (%d)", message.means, count))
		f.Status = max(f.Status, message.status)
		if message.advice != nil && len(f.Advice) == 0 {
			f.Advice = m.adviseAll(message.advice())
		}
	}
	if len(told) == 0 {
		f.Message = "The kernel's log has no message of the frontend's trouble. That says little: a drop of today's drivers leaves none."
	} else {
		f.Message = "By the kernel's log, " + strings.Join(told, "; ") + "."
	}
	f.Message += log.caveats()
	return f
}

// rocketMessage says what the message of packets over the limit means with this
// driver.
func (m *Machine) rocketMessage(message logMessage) logMessage {
	switch m.Code.linearizes() {
	case netfront.Linearizes:
		message.means = "packets of more than 18 slots were linearized and sent, which is harmless"
	case netfront.Drops:
		message.status = event.Fail
		message.means = "packets of more than 18 slots were dropped"
		message.advice = func() []event.Advice { return verdict.OfCause(event.TooManySlots).Advice }
	default:
		message.status = event.Warn
		message.means = "packets of more than 18 slots came; whether they were dropped depends on the driver"
	}
	return message
}

func (l *Log) caveats() string {
	text := ""
	if l.Wrapped {
		text += fmt.Sprintf(" Its oldest message is from %s after the start; older ones were overwritten.", span(l.Begins))
	}
	if l.Limited > 0 {
		text += fmt.Sprintf(" The kernel left out %d messages of the network because there were too many.", l.Limited)
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
