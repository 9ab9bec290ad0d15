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

// maxLogBytes bounds what is read of the kernel log, which has 1 MiB or less unless the
// kernel was started with log_buf_len.
const maxLogBytes = 32 << 20

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
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // overwritten just now: the next read goes on
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

// A logRecord is a record "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT", followed by lines
// " NAME=VALUE".
type logRecord struct {
	ofKernel  bool   // facility 0, which the kernel gives to no one else's records
	sequence  uint64 // 0 is the first since boot
	at        time.Duration
	text      string
	subsystem string // of the device, which the kernel adds; empty without one
	device    string // as +BUS:NAME, or nINDEX for an interface
}

func parseLogRecord(raw string) logRecord {
	head, rest, _ := strings.Cut(raw, ";")
	text, properties, _ := strings.Cut(rest, "\n")
	r := logRecord{text: text}
	if fields := strings.Split(head, ","); len(fields) > 2 {
		const severities = 8
		priority, err := strconv.ParseUint(fields[0], 10, 32)
		r.ofKernel = err == nil && priority < severities
		r.sequence, _ = strconv.ParseUint(fields[1], 10, 64)
		microseconds, _ := strconv.ParseUint(fields[2], 10, 63)
		r.at = time.Duration(min(microseconds, uint64(1<<63-1)/1000)) * time.Microsecond
	}
	for line := range strings.Lines(properties) {
		line = strings.TrimSuffix(line, "\n")
		if value, is := strings.CutPrefix(line, " SUBSYSTEM="); is {
			r.subsystem = value
		}
		if value, is := strings.CutPrefix(line, " DEVICE="); is {
			r.device = value
		}
	}
	return r
}

// logDevices are the interfaces of the driver, by name and as a record has them.
type logDevices map[string]bool

func logDevicesOf(links *Links) logDevices {
	devices := logDevices{}
	for _, i := range slices.Concat(links.Judged, links.Others) {
		if i.IsNetfront() {
			devices[i.Name], devices["n"+strconv.Itoa(i.Index)] = true, true
		}
	}
	return devices
}

// misaligned is a warning of the driver, which has no prefix.
const misaligned = "misaligned skb allocated"

// prefix returns a function that cuts the driver's prefix off the text of a record, and
// reports false of a text that is not the driver's. Users can have text of theirs written
// to the kernel log, as with mount options, but not at its beginning, and not with the
// device that the kernel adds.
func (d logDevices) prefix() func(logRecord) (string, bool) {
	// Dynamic debug can put the thread, module, function and line in front.
	module := regexp.MustCompile(`^(?:\[\d+\] |<intr> )?(?:(?:xen_netfront|xennet_\w+|\d+): ?)*(?:xen_netfront|xennet): (.*)$`)
	frontend := regexp.MustCompile(`^vif (vif-\d+)(?: \S+)?(?: \([\w ]+\))?: (.*)$`)
	network := regexp.MustCompile(`^net ([^\s:]+)(?: \([\w ]+\))?: (.*)$`)
	return func(r logRecord) (string, bool) {
		if m := module.FindStringSubmatch(r.text); m != nil {
			return m[1], true
		}
		if m := frontend.FindStringSubmatch(r.text); m != nil {
			return m[2], r.subsystem == "xen" && r.device == "+xen:"+m[1]
		}
		if m := network.FindStringSubmatch(r.text); m != nil { // an interface may have been renamed since
			return m[2], r.subsystem == "net" && (d[m[1]] || d[r.device])
		}
		return r.text, r.text == misaligned
	}
}
