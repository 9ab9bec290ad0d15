//go:build xenlab

package guest

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// scatterGather switches the feature for the rest of the test.
func scatterGather(t *testing.T, to string) {
	t.Helper()
	if out, err := exec.Command("ethtool", "-K", ifname, "sg", to).CombinedOutput(); err != nil {
		t.Fatalf("ethtool: %v\n%s", err, out)
	}
}

// With scatter-gather off, packets of two slots are dropped: since 6.3 some small
// heads cross a page, how many depends on the slab's geometry. Every such drop is
// a record, and where there is none the tracer reports none.
func TestScatterGatherOff(t *testing.T) {
	const held, sent, port = 8000, 480, 7005
	scatterGather(t, "off")
	t.Cleanup(func() { scatterGather(t, "on") })
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", backend)
			time.Sleep(settle)
			packets, dropped := counter(t, "tx_packets"), counter(t, "tx_dropped")
			heads, err := rocket.Hold(t.Context(), held, 300)
			if err != nil {
				t.Fatal(err)
			}
			sendSizes(t, netip.AddrPortFrom(peerAddr(t, "ipv4"), port), sent)
			if err := heads.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(settle)
			packets, dropped = counter(t, "tx_packets")-packets, counter(t, "tx_dropped")-dropped
			output := run.Stop()
			checkScatterGather(t, &output, packets, dropped)
		})
	}
}

// sendSizes sends n datagrams of 280 to 340 bytes.
func sendSizes(t *testing.T, to netip.AddrPort, n int) {
	t.Helper()
	datagrams, err := rocket.NewDatagrams(t.Context(), to, rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagrams.Close() }()
	for i := range n {
		if err := datagrams.Send(t.Context(), 1, 280+i%61); err != nil {
			t.Fatal(err)
		}
	}
}

func checkScatterGather(t *testing.T, output *tool.Output, packets, dropped uint64) {
	t.Helper()
	t.Logf("%d sent, %d dropped", packets, dropped)
	for i := range output.Packets {
		p := &output.Packets[i]
		if p.Verdict == "bounced" {
			continue // a head that starts just before a page's end; not lost
		}
		if p.Verdict != "dropped" || text(p.Cause) != "sg_off" || p.Slots < 2 || p.Slots != p.SlotsOfParts() {
			t.Fatalf("record %s: want a packet of two slots dropped for scatter-gather", p)
		}
	}
	i := output.Only(t)
	if i.Causes["sg_off"] != dropped || i.Dropped != dropped || i.TxDroppedDelta == nil || *i.TxDroppedDelta != dropped {
		t.Errorf("causes %v, %d dropped, tx_dropped_delta %v: the driver counted %d", i.Causes, i.Dropped, i.TxDroppedDelta, dropped)
	}
	if i.Counted() != packets+dropped {
		t.Errorf("histogram of %d: the interface sent %d and dropped %d", i.Counted(), packets, dropped)
	}
	if output.Summary.Events != dropped+i.Bounced {
		t.Errorf("%d records, want the %d drops and %d bounces", output.Summary.Events, dropped, i.Bounced)
	}
	if dropped == 0 && smallHeads(t) {
		t.Error("nothing was dropped, though small heads cross pages on this kernel with two CPUs")
	}
}

// smallHeads reports whether this guest's small heads cross pages: since 6.3 they have a slab
// cache of their own, maybe merged with another, whose objects are no power of two in size.
// Two CPUs make its slabs larger than a page.
func smallHeads(t *testing.T) bool {
	t.Helper()
	const cache = "/sys/kernel/slab/skbuff_small_head"
	if _, err := os.Stat(cache); errors.Is(err, os.ErrNotExist) {
		return false
	}
	size, order := atoi(t, readFile(t, cache+"/slab_size")), atoi(t, readFile(t, cache+"/order"))
	return size&(size-1) != 0 && order > 0
}
