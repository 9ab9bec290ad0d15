package check

import (
	"encoding/binary"
	"strings"
)

func cpuid(leaf uint32) (a, b, c, d uint32)

// cpuSignature asks the CPU for its hypervisor's name. Xen may stand
// behind another hypervisor's leaves, which it offers for Windows. A PV guest
// sees the physical CPU, which has no such leaf.
func cpuSignature() string {
	const hypervisorBit, first, last, step = 1 << 31, 0x40000000, 0x40010000, 0x100
	if _, _, c, _ := cpuid(1); c&hypervisorBit == 0 {
		return ""
	}
	found := ""
	for leaf := uint32(first); leaf < last; leaf += step {
		highest, b, c, d := cpuid(leaf)
		if leaf > first && (highest < leaf || highest > leaf+step) {
			continue
		}
		var name []byte
		for _, register := range []uint32{b, c, d} {
			name = binary.LittleEndian.AppendUint32(name, register)
		}
		signature := strings.TrimRight(string(name), "\x00")
		if signature == xenSignature {
			return signature
		}
		if leaf == first {
			found = signature
		}
	}
	return found
}
