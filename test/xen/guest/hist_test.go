//go:build xenlab

package guest

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// Concurrent senders on every CPU: the histogram adds up to what the
// interface counted, to the packet, and no drop goes without its record.
func TestHistogramOfConcurrentSenders(t *testing.T) {
	const senders, rounds, burst = 4, 20, 20
	drops := env(t, "XENTRACE_LAB_DRIVER") == "prefix"
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", backend)
			time.Sleep(settle)
			packets, dropped := counter(t, "tx_packets"), counter(t, "tx_dropped")
			var all sync.WaitGroup
			for s := range senders {
				to := netip.AddrPortFrom(peerAddr(t, "ipv4"), uint16(7006+s))
				all.Go(func() {
					if err := sendMixed(t.Context(), to, rounds, burst); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			time.Sleep(settle)
			packets, dropped = counter(t, "tx_packets")-packets, counter(t, "tx_dropped")-dropped
			output := run.Stop()
			i := output.Only(t)
			t.Logf("%d sent, %d dropped by the driver's counter, %d by ours", packets, dropped, i.Dropped)
			// Without a lock around it, the driver's counter may lose a drop of
			// two at once; a packet that it does not count at all is not sent either.
			want := packets + dropped
			if drops {
				want = packets + i.Dropped
			}
			if i.Counted() != want || packets < senders*rounds*burst {
				t.Errorf("histogram of %d, want %d", i.Counted(), want)
			}
			var wantDropped uint64
			if drops {
				wantDropped = senders * rounds
			}
			if i.Dropped != wantDropped || i.Dropped < dropped {
				t.Errorf("%d dropped, want %d, and at least the driver's %d", i.Dropped, wantDropped, dropped)
			}
			if got := uint64(len(output.Packets)); got != i.Dropped+i.Linearized+output.Bounces() {
				t.Errorf("%d records for %d dropped and %d linearized", got, i.Dropped, i.Linearized)
			}
		})
	}
}

// sendMixed sends bursts of ordinary datagrams with a rocket after each.
func sendMixed(ctx context.Context, to netip.AddrPort, rounds, burst int) error {
	rockets, err := rocket.NewUDP(ctx, to, rocket.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = rockets.Close() }()
	ordinary, err := rocket.NewDatagrams(ctx, to, rocket.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = ordinary.Close() }()
	for range rounds {
		if err := ordinary.Send(ctx, burst, 200); err != nil {
			return err
		}
		if _, err := rockets.Send(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sendOrdinary sends n datagrams, each one packet of one slot or two.
func sendOrdinary(t *testing.T, port uint16, n int) {
	t.Helper()
	datagrams, err := rocket.NewDatagrams(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), port), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := datagrams.Send(t.Context(), n, ordinaryLength); err != nil {
		t.Fatal(err)
	}
	if err := datagrams.Close(); err != nil {
		t.Fatal(err)
	}
}
