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
)

// A Log is what the kernel log has about the frontend.
type Log struct {
	Counts   map[string]int // of each message, by its name
	Shown    map[string]int // of those, what dmesg prints: the records since the log was last cleared
	Entries  []LogEntry     // the messages by name and device
	Attached time.Duration  // since the start of the kernel, when all frontends were last connected anew
	Begins   time.Duration  // since the start of the kernel, of the oldest record
	Wrapped  bool           // older records were overwritten
	Limited  int            // messages that the kernel kept to itself because there were too many
}

// A LogEntry is a message about one device.
type LogEntry struct {
	Message string        // its name
	Device  string        // as the message has it: eth0, or vif-0; empty where it names none
	Index   int           // of the interface; 0 if the record does not have it
	Count   int           // of records
	Last    time.Duration // since the start of the kernel
}

// maxEntries bounds them: each interface that ever was may have its own.
const maxEntries = 256

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

// A logRecord is one record, "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT", with lines of
// properties, " KEY=VALUE".
type logRecord struct {
	sequence string
	at       time.Duration
	text     string
	device   string
	index    int
}

func parseRecord(record string) logRecord {
	head, text, _ := strings.Cut(record, ";")
	text, properties, _ := strings.Cut(text, "\n")
	r := logRecord{text: text}
	if fields := strings.Split(head, ","); len(fields) > 2 {
		microseconds, _ := strconv.ParseInt(fields[2], 10, 64)
		r.sequence, r.at = fields[1], time.Duration(microseconds)*time.Microsecond
	}
	for line := range strings.Lines(properties) {
		if index, is := strings.CutPrefix(strings.TrimSpace(line), "DEVICE=n"); is {
			r.index, _ = strconv.Atoi(index)
		}
	}
	r.device = deviceOf(text)
	return r
}

// deviceOf is the device that a message begins with: "vif vif-0 eth0: " of netdev_warn, "net
// eth0: " and "vif vif-0: " of dev_warn.
func deviceOf(text string) string {
	name, _, is := strings.Cut(text, ": ")
	if words := strings.Fields(name); is && len(words) > 1 && len(words) < 4 && (words[0] == "vif" || words[0] == "net") {
		return words[len(words)-1]
	}
	return ""
}

// anew are messages after which every frontend is connected anew: of the driver when it is loaded,
// and of the grant table at boot and on resume.
var anew = []string{"Initialising Xen virtual ethernet driver", "Grant tables using version"}

func parseLog(records LogRecords) Log {
	log := Log{Counts: map[string]int{}, Shown: map[string]int{}}
	messages := logMessages()
	for n, text := range records.All {
		record := parseRecord(text)
		if n == 0 {
			log.Wrapped, log.Begins = record.sequence != "0", record.at
		}
		if containsAny(record.text, anew) {
			log.Attached = record.at
		}
		for _, message := range messages {
			if !message.matches(record.text) {
				continue
			}
			log.Counts[message.name]++
			if n >= records.Cleared {
				log.Shown[message.name]++
			}
			log.add(message.name, &record)
		}
		log.Limited += suppressed(record.text)
	}
	return log
}

func (l *Log) add(name string, r *logRecord) {
	at := slices.IndexFunc(l.Entries, func(e LogEntry) bool { return e.Message == name && e.Device == r.device && e.Index == r.index })
	if at < 0 {
		if len(l.Entries) == maxEntries {
			l.Entries = slices.Delete(l.Entries, 0, 1)
		}
		l.Entries = append(l.Entries, LogEntry{Message: name, Device: r.device, Index: r.index})
		at = len(l.Entries) - 1
	}
	l.Entries[at].Count++
	l.Entries[at].Last = r.at
}

func containsAny(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
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
