package check

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Log is what the kernel log has about the frontend.
type Log struct {
	Counts   map[string]int // of each message of the driver, by its name
	Entries  []LogEntry     // the messages by name and device
	Attached time.Duration  // since the start of the kernel, when all frontends were last connected anew
	Begins   time.Duration  // since the start of the kernel, of the oldest record
	Wrapped  bool           // older records were overwritten
	Limited  int            // messages that the kernel kept to itself because there were too many

	// "skb rides the rocket", whoever wrote it, and of those the ones that dmesg prints: the
	// records since the log was last cleared.
	Rockets, RocketsShown int
}

// A LogEntry is a message about one device.
type LogEntry struct {
	Message string        // its name
	Device  string        // as the message has it: eth0, or vif-0; empty where it names none
	Index   int           // of the interface; 0 if the record does not have it
	Count   int           // of records
	Last    time.Duration // since the start of the kernel
}

const (
	// maxEntries bounds them: each interface that ever was may have its own.
	maxEntries = 256
	// maxLogBytes bounds what is read of the log, which has 1 MiB or less unless the kernel
	// was started with log_buf_len.
	maxLogBytes = 32 << 20
)

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
	left := maxLogBytes
	buffer := make([]byte, 8<<10) // the kernel's limit of one record
	for ctx.Err() == nil {
		n, err := unix.Read(fd, buffer)
		left -= max(n, 0)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // overwritten just now: the next read skips it
		case errors.Is(err, unix.EAGAIN):
			return records, nil
		case err != nil:
			return nil, fmt.Errorf("/dev/kmsg: %w", err)
		case n == 0, left < 0:
			return records, nil
		default:
			records = append(records, string(buffer[:n]))
		}
	}
	return nil, ctx.Err()
}

func (r *reader) log(ctx context.Context, links *Links) Known[Log] {
	records, err := r.source.Log(ctx)
	return tried(parseLog(records, logDevicesOf(links)), err)
}

// A logRecord is one record, "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT", with lines of
// properties, " KEY=VALUE".
type logRecord struct {
	ofKernel bool // facility 0, which the kernel gives to no one else's records
	sequence string
	at       time.Duration
	text     string
	device   string
	index    int
	place    string // where the device is, as the kernel adds it: SUBSYSTEM and DEVICE, such as "xen +xen:vif-0"
}

func parseRecord(record string) logRecord {
	head, text, _ := strings.Cut(record, ";")
	text, properties, _ := strings.Cut(text, "\n")
	r := logRecord{text: text}
	if fields := strings.Split(head, ","); len(fields) > 2 {
		const severities = 8
		priority, err := strconv.ParseUint(fields[0], 10, 32)
		microseconds, _ := strconv.ParseUint(fields[2], 10, 63)
		r.ofKernel = err == nil && priority < severities
		r.sequence, r.at = fields[1], time.Duration(min(microseconds, maxMicroseconds))*time.Microsecond
	}
	var subsystem, device string
	for line := range strings.Lines(properties) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "SUBSYSTEM":
			subsystem = value
		case "DEVICE":
			device = value
		}
	}
	if index, is := strings.CutPrefix(device, "n"); is {
		r.index, _ = strconv.Atoi(index)
	}
	r.device, r.place = deviceOf(text), subsystem+" "+device
	return r
}

const maxMicroseconds = uint64(1<<63-1) / uint64(time.Microsecond)

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
// and of the grant table at boot and on resume. Old kernels write them without a prefix.
var anew = []string{"xen_netfront: Initialising Xen virtual ethernet driver", "Initialising Xen virtual ethernet driver", "xen:grant_table: Grant tables using version", "Grant tables using version"}

func parseLog(records LogRecords, devices logDevices) Log {
	log := Log{Counts: map[string]int{}}
	messages, prefix := logMessages(), devices.prefix()
	for n, text := range records.All {
		record := parseRecord(text)
		if n == 0 {
			log.Wrapped, log.Begins = record.sequence != "0", record.at
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
		if beginsWithAny(record.text, anew) {
			log.Attached = record.at
		}
		log.Limited += suppressed(record.text)
		text, is := prefix(&record)
		for _, message := range messages {
			if is && message.matches(text, record.text) {
				log.Counts[message.name]++
				log.add(message.name, &record)
			}
		}
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

func beginsWithAny(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.HasPrefix(text, part) })
}

// suppressed is how many network messages the kernel suppressed,
// "net_ratelimit: 5 callbacks suppressed".
func suppressed(text string) int {
	rest, is := strings.CutPrefix(text, "net_ratelimit: ")
	number, of := strings.CutSuffix(rest, " callbacks suppressed")
	n, err := strconv.ParseUint(number, 10, 31)
	if !is || !of || err != nil {
		return 0
	}
	return int(n)
}

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
