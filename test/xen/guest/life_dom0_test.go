//go:build xenlab

package guest

import (
	"net/netip"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// dom0 takes the interface away and gives another one: it has a new index, and counts
// from its first packet on.
func TestLifeReattached(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.traffic(10, 200)
			done := dom0(t, "reattach 2")
			l.vanishes()
			netfront(t, "up")
			done()
			l.traffic(10, 200)
			output := l.end(0)
			noGap(t, &output)
			l.twoLives(&output)
		})
	}
}

// twoLives checks that the interface is there once as it was and once as it is.
func (l *life) twoLives(output *tool.Output) {
	l.t.Helper()
	all := output.Summary.Interfaces
	if len(all) != 2 || all[0].Ifindex == all[1].Ifindex || all[0].Dropped+all[0].Linearized != 10 || all[1].Dropped+all[1].Linearized != 10 {
		l.t.Errorf("interfaces %+v: want two of different indices, with ten rockets each", all)
	}
}

// The backend's driver leaves the vif and comes back, while the guest keeps sending:
// the frontend keeps its ring and notices nothing.
func TestLifeBackendRestarted(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.traffic(10, 200)
			done := dom0(t, "rebind 2")
			l.trickle(3 * time.Second)
			done()
			l.traffic(10, 200)
			output := l.end(0)
			noGap(t, &output)
			if n := len(output.Summary.Interfaces); n != 1 {
				t.Errorf("%d interfaces, want the one that stayed", n)
			}
		})
	}
}

// trickle sends an ordinary packet now and then, for that long.
func (l *life) trickle(length time.Duration) {
	l.t.Helper()
	l.at.in(l.t, func() error {
		to := netip.AddrPortFrom(peerAddr(l.t, "ipv4"), lifePort)
		datagrams, err := rocket.NewDatagrams(l.t.Context(), to, rocket.Options{})
		if err != nil {
			return err
		}
		for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if err := datagrams.Send(l.t.Context(), 1, ordinaryLength); err != nil {
				return err
			}
		}
		return datagrams.Close()
	})
}

// The guest does not run for a while and does not know: its clock says how long it was.
func TestLifePaused(t *testing.T) {
	const pause = 3 * time.Second
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.traffic(10, 200)
			done := dom0(t, "pause 3")
			l.trickle(pause + 2*time.Second)
			done()
			l.traffic(10, 200)
			elapsed := time.Since(l.began)
			output := l.end(0)
			noGap(t, &output)
			if d := time.Duration(output.Summary.DurationMs) * time.Millisecond; d < pause || d < elapsed {
				t.Errorf("a duration of %v, want at least %v", d, elapsed)
			}
		})
	}
}

// The guest is saved to a file and restored as another domain: its frontend connects
// anew, the hooks stay, and the time that went by is a gap.
func TestLifeSavedAndRestored(t *testing.T) {
	const away = 4 * time.Second
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			l := beginLife(t, backend)
			l.traffic(10, 200)
			l.disconnected = true
			wall := time.Now().Round(0) // without the clock that is stopped meanwhile
			dom0(t, "save 4")()
			l.run.Says("machine was suspended, or saved and restored, for", 1)
			l.traffic(10, 200)
			passed, elapsed := time.Now().Round(0).Sub(wall), time.Since(l.began)
			output := l.end(0)
			length := gap(t, &output, "machine_suspended")
			t.Logf("%v went by, %v of them in the gap", passed, length)
			if length < away || length > passed {
				t.Errorf("a gap of %v, want at least %v and at most the %v that went by", length, away, passed)
			}
			if d := time.Duration(output.Summary.DurationMs) * time.Millisecond; d > elapsed+5*time.Second {
				t.Errorf("a duration of %v, though the machine ran for %v", d, elapsed)
			}
			if n := len(output.Summary.Interfaces); n != 1 {
				t.Errorf("%d interfaces, want the one that stayed", n)
			}
			for n := range output.Packets {
				at := output.Packets[n].Time
				if from, to := output.Summary.Gaps[0].From, *output.Summary.Gaps[0].To; at.After(from.Add(time.Second)) && at.Before(to.Add(-time.Second)) {
					t.Errorf("a record of %v, in the gap from %v to %v", at, from, to)
				}
			}
		})
	}
}
