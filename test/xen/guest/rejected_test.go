//go:build xenlab

package guest

import (
	"os"
	"strings"
	"testing"
)

// acceptedSlots is what netback takes of one packet: XEN_NETBK_LEGACY_SLOTS_MAX
// requests behind the first.
const acceptedSlots = 19

// needNoCheck leaves out a test whose packets only a driver without a limit puts
// on the ring, or that wants another backend.
func needNoCheck(t *testing.T, fatal bool) {
	t.Helper()
	if driver := env(t, "XENTRACE_LAB_DRIVER"); driver != "nocheck" {
		t.Skipf("the driver %s keeps to the limit, so that its backend has nothing to refuse (--driver nocheck)", driver)
	}
	if got := strings.HasSuffix(os.Getenv("XENTRACE_LAB_NETBACK"), "fatal_skb_slots=20"); got != fatal {
		t.Skipf("dom0's netback has the parameters %q (--netback fatal_skb_slots=20 has it disable the interface)", os.Getenv("XENTRACE_LAB_NETBACK"))
	}
}

// seesResponses reports whether a backend can know what was refused: by the driver's
// own structures, which take its BTF.
func seesResponses(t *testing.T, backend string) bool {
	t.Helper()
	return driverTypes() && backend != "tracepoint"
}

// Every rocket is refused by the backend, one at a time, while the driver counts it
// as sent; each is one record with its own flow and slots, and no other packet is.
func TestRejectedPackets(t *testing.T) {
	needNoCheck(t, false)
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			m := watchTraffic(t, backend, true, amount{rockets: 50, datagrams: 2000, bytes: 100_000}, "--rejected")
			i := m.checkTotals(t)
			for key, sent := range m.sent.rockets {
				if sent.Slots <= acceptedSlots {
					t.Fatalf("a rocket of %d slots over %s, which the backend takes", sent.Slots, key.proto)
				}
			}
			if m.dropped != 0 || i.Linearized != 0 {
				t.Errorf("%d dropped, %d linearized, want none", m.dropped, i.Linearized)
			}
			m.checkOrdinaryArrived(t)
			if !seesResponses(t, backend) {
				m.checkRejectedUnknown(t)
				return
			}
			m.checkRecords(t, "rejected", "")
			if n, rockets := uint64(len(m.output.Packets)), uint64(m.sent.amount.rockets); i.Rejected == nil || *i.Rejected != n || n < 2*rockets {
				t.Errorf("%v rejected, %d records, want as many, and at least %d", i.Rejected, n, 2*rockets)
			}
			if reason := m.output.Summary.Missing["rejected"]; reason != "" {
				t.Errorf("rejected is missing: %q", reason)
			}
		})
	}
}

// checkRejectedUnknown checks that the summary says that it does not know, and why.
func (m *measured) checkRejectedUnknown(t *testing.T) {
	t.Helper()
	i := m.output.Only(t)
	if i.Rejected != nil || m.output.Summary.Missing["rejected"] == "" || len(m.output.Packets) != 0 {
		t.Errorf("%v rejected for the reason %q, %d records: want null, a reason and none",
			i.Rejected, m.output.Summary.Missing["rejected"], len(m.output.Packets))
	}
	if !strings.Contains(m.output.Stderr, "rejected packets are not counted: ") {
		t.Errorf("notices %q: nothing of refused packets", m.output.Stderr)
	}
}

// checkOrdinaryArrived checks that the peer received all but the rockets.
func (m *measured) checkOrdinaryArrived(t *testing.T) {
	t.Helper()
	much := m.sent.amount
	if got := received(t, "udp", "ipv4", udpOrdinaryPort, uint64(much.datagrams*ordinaryLength)); got.Datagrams != uint64(much.datagrams) {
		t.Errorf("%d ordinary datagrams arrived, want %d", got.Datagrams, much.datagrams)
	}
	if got := received(t, "tcp", "ipv4", tcpOrdinaryPort, uint64(much.bytes)); got.Bytes != uint64(much.bytes) {
		t.Errorf("%d bytes of the stream arrived, want %d", got.Bytes, much.bytes)
	}
	if got := received(t, "udp", "ipv4", udpRocketPort, 0); got.Datagrams != 0 {
		t.Errorf("%d rockets arrived, want none", got.Datagrams)
	}
}
