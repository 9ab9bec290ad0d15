package output

import (
	"net/netip"
	"strconv"
	"time"

	"xentrace/internal/event"
)

// What is shown on a whole screen is worded as it is in lines: these are the words.

// Grouped writes n with a comma between groups of three digits.
func Grouped(n uint64) string { return grouped(n) }

// ByteSize writes a number of bytes in steps of a thousand.
func ByteSize(n uint64) string { return byteSize(n) }

// PerSecond is the rate of n in d, rounded; 0 where no time passed.
func PerSecond(n uint64, d time.Duration) uint64 { return perSecond(n, d) }

// Seconds writes a duration as people say it: 12.0 s, 3m 20s.
func Seconds(d time.Duration) string { return seconds(d) }

// Clock writes a duration as m:ss or h:mm:ss.
func Clock(d time.Duration) string { return clock(d) }

// Endpoints names both ends of a flow and its protocol.
func Endpoints(proto uint8, source, destination netip.AddrPort) string {
	from, rest := endpoints(proto, source, destination)
	return from + rest
}

// TCPState is the kernel's name of a state of a TCP connection, less TCP_.
func TCPState(state uint8) string { return tcpStateName(state) }

// Where says in a few words why and where a packet was dropped outside the driver;
// "" for the driver's own drops.
func Where(p *event.Packet) string { return where(p) }

// VerdictColour is the number of the SGR colour that a verdict has on a terminal.
func VerdictColour(v event.Verdict) int {
	number, _ := strconv.Atoi(string(verdictColour(v)))
	return number
}

// FlowCauses lists why packets of a flow were dropped, with how many.
func FlowCauses(f *event.FlowHistory) string { return flowCauses(f) }
