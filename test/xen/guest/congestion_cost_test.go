//go:build xenlab

package guest

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"xentrace/test/tool"
)

// A packet that is sent as usual runs one program of congestion before the driver and one
// behind it, neither of which refers to a hash map; those of the completion and of the
// notification run no more often than there are packets.
func TestCongestionCost(t *testing.T) {
	const n, port = 2000, 7015
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stats.Close() }()
	run := tool.Start(t, program(t), "congestion", "-d", "0", "-o", "json")
	time.Sleep(settle)
	before := programRuns(t, "congestion_e") // and checks its maps
	packets := counter(t, "tx_packets")
	sendOrdinary(t, port, n)
	time.Sleep(settle)
	packets = counter(t, "tx_packets") - packets
	after := programRuns(t, "congestion_b")
	begin := "congestion_begin_typed" // where the kernel has tp_btf
	if after[begin] == nil {
		begin = "congestion_begin"
	}
	report := run.StopMeasuring()[0]
	if report.Packets < packets || packets < n {
		t.Errorf("%d packets counted, %d sent", report.Packets, packets)
	}
	for name, most := range map[string]uint64{
		begin: packets, "congestion_end": packets, "congestion_notify": packets + 50, "congestion_completion": packets + 50, "congestion_free": 0, "congestion_wake": packets / 10,
	} {
		s := after[name]
		if s == nil {
			if name == "congestion_completion" && !driverTypes() {
				continue
			}
			t.Fatalf("%s is not there: %v", name, report.Missing)
		}
		runs := s.RunCount - before[name].RunCount
		if exact := name == begin || name == "congestion_end" || name == "congestion_free"; runs > most || exact && runs != most {
			t.Errorf("%s ran %d times for %d packets", name, runs, packets)
		}
		if runs > 0 {
			t.Logf("%s: %d runs for %d packets, %d ns each", name, runs, packets, (s.Runtime-before[name].Runtime).Nanoseconds()/int64(runs))
		}
	}
}
