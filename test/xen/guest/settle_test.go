//go:build xenlab

package guest

import (
	"net/netip"
	"testing"
	"time"

	"xentrace/internal/rocket"
	"xentrace/test/tool"
)

// A linearized packet is reported within 200 ms though no further packet is sent, by
// every backend, on each CPU.
func TestSettledInSilence(t *testing.T) {
	const port, wait = 7030, 200 * time.Millisecond
	if env(t, "XENTRACE_LAB_DRIVER") == "prefix" {
		t.Skip("this driver linearizes nothing")
	}
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			run := tool.Start(t, program(t), "watch", "-o", "json", "--backend", backend)
			time.Sleep(4 * time.Second) // the driver's code is read alongside, on the same CPUs
			sender, err := rocket.NewUDP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), port), rocket.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sender.Close() }()
			for n := 1; n <= 5; n++ {
				time.Sleep(settle)
				if _, err := sender.Send(t.Context()); err != nil {
					t.Fatal(err)
				}
				sent := time.Now()
				run.Tells(`"verdict":"linearized"`, n)
				if took := time.Since(sent); took > wait {
					t.Errorf("packet %d was reported after %v, want %v at most", n, took, wait)
				}
			}
			output := run.Stop()
			if i := output.Only(t); i.Linearized != 5 || i.OverLimit != 5 {
				t.Errorf("%d linearized, %d over the limit, want 5", i.Linearized, i.OverLimit)
			}
		})
	}
}
