// Package filter chooses which packets are shown. It does not affect what
// is counted.
package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/filter/expression"
)

// A Filter passes the packets that meet each condition that is set. Of several values
// for one condition one is enough. The zero Filter passes every packet. What is not known
// of a packet meets no condition.
type Filter struct {
	Hosts    []netip.Prefix // source or destination
	Ports    []uint16       // source or destination
	PIDs     []int          // of the socket's owner
	Comms    []string
	Causes   []event.Cause
	Verdicts []event.Verdict
	MinSlots int
	// Expression is a pcap filter of the packet's headers; nil passes all.
	Expression *expression.Expression
}

// Active reports whether there is a condition.
func (f *Filter) Active() bool { return len(f.Flags()) > 0 }

// Match reports whether a packet passes.
func (f *Filter) Match(p *event.Packet) bool { return f.MatchOf(p, p.Process) }

// MatchOf reports whether a packet passes if it belongs to process, which may have been
// found out later than the record was made; nil where it is not known.
func (f *Filter) MatchOf(p *event.Packet, process *event.Process) bool {
	return p.Slots >= f.MinSlots &&
		(len(f.Verdicts) == 0 || slices.Contains(f.Verdicts, p.Verdict)) &&
		(len(f.Causes) == 0 || slices.Contains(f.Causes, p.Cause)) &&
		(f.matchFlow(p.Flow) || p.Inner != nil && f.matchFlow(p.Inner) || p.BeforeNAT != nil && f.matchFlow(p.BeforeNAT)) && f.matchProcess(process) &&
		(f.Expression == nil || f.Expression.Match(p))
}

func (f *Filter) matchFlow(flow *event.Flow) bool {
	if flow == nil {
		return len(f.Hosts)+len(f.Ports) == 0
	}
	return (len(f.Hosts) == 0 || f.hasHost(flow.Source.Addr()) || f.hasHost(flow.Destination.Addr())) &&
		(len(f.Ports) == 0 || slices.Contains(f.Ports, flow.Source.Port()) || slices.Contains(f.Ports, flow.Destination.Port()))
}

func (f *Filter) hasHost(address netip.Addr) bool {
	address = address.Unmap()
	return slices.ContainsFunc(f.Hosts, func(host netip.Prefix) bool { return host.Contains(address) })
}

func (f *Filter) matchProcess(process *event.Process) bool {
	if process == nil {
		return len(f.PIDs)+len(f.Comms) == 0
	}
	return (len(f.PIDs) == 0 || slices.Contains(f.PIDs, process.PID)) &&
		(len(f.Comms) == 0 || slices.Contains(f.Comms, process.Comm))
}

// Flags returns the conditions as they are written on the command line; the name of a
// process may hold anything.
func (f *Filter) Flags() []string {
	var flags []string
	for _, host := range f.Hosts {
		if host.IsSingleIP() {
			flags = append(flags, "--host "+host.Addr().String())
		} else {
			flags = append(flags, "--host "+host.String())
		}
	}
	for _, port := range f.Ports {
		flags = append(flags, "--port "+strconv.Itoa(int(port)))
	}
	for _, pid := range f.PIDs {
		flags = append(flags, "--pid "+strconv.Itoa(pid))
	}
	for _, comm := range f.Comms {
		flags = append(flags, "--comm "+comm)
	}
	for _, cause := range f.Causes {
		flags = append(flags, "--cause "+cause.String())
	}
	for _, verdict := range f.Verdicts {
		flags = append(flags, "--verdict "+verdict.String())
	}
	if f.MinSlots > 0 {
		flags = append(flags, "--min-slots "+strconv.Itoa(f.MinSlots))
	}
	if f.Expression != nil {
		flags = append(flags, "'"+f.Expression.String()+"'") // it has no quotes
	}
	return flags
}

// ParseHost reads an address, or a network in CIDR notation.
func ParseHost(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		if prefix.Addr().Is4In6() {
			return netip.Prefix{}, errors.New("an IPv4 address written as IPv6: write it as IPv4")
		}
		return prefix.Masked(), nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, errors.New("not an address such as 10.0.0.1 or fd00::1, nor a network such as 10.0.0.0/8 (names are not looked up)")
	}
	if address.Zone() != "" {
		return netip.Prefix{}, errors.New("an address with a zone: leave out what begins with %")
	}
	address = address.Unmap()
	return netip.PrefixFrom(address, address.BitLen()), nil
}

// ParsePort reads a port.
func ParsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, errors.New("not a port: a number from 1 to 65535")
	}
	return uint16(port), nil
}

// ParsePID reads the number of a process.
func ParsePID(text string) (int, error) {
	const most = 1 << 22 // PID_MAX_LIMIT
	pid, err := strconv.Atoi(text)
	if err != nil || pid < 1 || pid > most {
		return 0, fmt.Errorf("not a process: a number from 1 to %d", most)
	}
	return pid, nil
}

// ParseComm reads the name of a process as it calls itself.
func ParseComm(text string) (string, error) {
	const most = 15 // TASK_COMM_LEN - 1
	if text == "" || len(text) > most {
		return "", fmt.Errorf("not a name of 1 to %d bytes: the kernel keeps no more of it (/proc/PID/comm)", most)
	}
	return text, nil
}

// ParseMinSlots reads how many slots a packet needs at least.
func ParseMinSlots(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n >= event.Buckets {
		return 0, fmt.Errorf("not a number from 1 to %d", event.Buckets-1)
	}
	return n, nil
}

// ParseCause reads why the driver drops a packet.
func ParseCause(text string) (event.Cause, error) {
	for _, cause := range event.Causes() {
		if cause.String() == text {
			return cause, nil
		}
	}
	return event.CauseNone, fmt.Errorf("not one of %s", strings.Join(CauseWords(), ", "))
}

// CauseWords lists the causes.
func CauseWords() []string {
	var words []string
	for _, cause := range event.Causes() {
		words = append(words, cause.String())
	}
	return words
}

// ParseVerdict reads what became of a packet.
func ParseVerdict(text string) (event.Verdict, error) {
	for v := event.Dropped; v <= event.Rejected; v++ {
		if v.String() == text {
			return v, nil
		}
	}
	return event.VerdictNone, fmt.Errorf("not one of %s", strings.Join(VerdictWords(), ", "))
}

// VerdictWords lists the verdicts that a record can have.
func VerdictWords() []string {
	var words []string
	for v := event.Dropped; v <= event.Rejected; v++ {
		words = append(words, v.String())
	}
	return words
}
