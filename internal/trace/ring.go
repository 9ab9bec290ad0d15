package trace

import "golang.org/x/sys/unix"

// DefaultRingBytes is the size of the ring buffer, unless asked otherwise, of machines with up
// to 4 GiB of memory: room for 9,000 records of packets with 17 fragments. Larger machines, which
// make more records in the time that the reader is kept off the CPU, have a thousandth of
// their memory, at most largestRing.
const (
	DefaultRingBytes = 4 << 20

	largestRing = 16 << 20
	memoryOfOne = 1024 // bytes of memory for a byte of the ring
)

// DefaultRing returns the size of the ring buffer that suits this machine, in bytes.
func DefaultRing() int {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return DefaultRingBytes
	}
	return ringFor(uint64(info.Totalram) * uint64(info.Unit))
}

// ringFor returns a power of two. Some of a machine's memory is never in its total.
func ringFor(memory uint64) int {
	ring := DefaultRingBytes
	for ring < largestRing && uint64(ring)*memoryOfOne*3/2 < memory {
		ring *= 2
	}
	return ring
}
