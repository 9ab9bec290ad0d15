package bench

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkPrograms counts the BPF programs that run for a packet which is sent as
// usual, and looks at their maps.
func BenchmarkPrograms(b *testing.B) {
	const packets = 100_000
	l := newLab(b)
	s := newSender(l, newFlood(l))
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	must(b, err)
	defer func() { must(b, stats.Close()) }()
	for b.Loop() {
		t := table{
			title: fmt.Sprintf("Programs that run for each of %d packets sent as usual (all traffic of the machine counts)", packets),
			head:  []string{"command", "programs attached", "runs for a packet", "hash maps they refer to"},
		}
		for _, command := range []string{"hist", "watch"} {
			before := programs(b)
			detach := attachXentrace(b, command, "-d", "0")
			own := newPrograms(b, observer{program: "tracepoint_"}, before)
			first := runsOf(b, own)
			_, err = s.reading(s.kinds[0], packets)
			must(b, err)
			perPacket := float64(runsOf(b, own)-first) / packets
			hashes := 0
			for _, program := range own {
				hashes += hashMaps(b, program)
				must(b, program.Close())
			}
			detach()
			t.add(command, fmt.Sprint(len(own)), fmt.Sprintf("%.3f", perPacket), fmt.Sprint(hashes))
			findings.goal("programs run for a packet sent as usual, "+command, "1 to 2, no hash map",
				fmt.Sprintf("%.3f, %d hash maps", perPacket, hashes), perPacket >= 1 && perPacket <= 2 && hashes == 0)
		}
		findings.add(t)
	}
}

// runsOf returns how often the programs ran.
func runsOf(tb testing.TB, all []*ebpf.Program) (runs uint64) {
	tb.Helper()
	for _, program := range all {
		stats, err := program.Stats()
		must(tb, err)
		runs += stats.RunCount
	}
	return runs
}

// hashMaps counts the maps of a program that are neither arrays nor the ring.
func hashMaps(tb testing.TB, program *ebpf.Program) (hashes int) {
	tb.Helper()
	info, err := program.Info()
	must(tb, err)
	ids, known := info.MapIDs()
	if !known {
		tb.Fatalf("the maps of %s are not known", info.Name)
	}
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		must(tb, err)
		switch m.Type() {
		case ebpf.Array, ebpf.PerCPUArray, ebpf.RingBuf:
		default:
			hashes++
		}
		must(tb, m.Close())
	}
	return hashes
}
