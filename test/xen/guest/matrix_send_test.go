//go:build xenlab && matrix

package guest

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"xentrace/test/rocket"
)

// Packets of a row, in rounds: ordinary ones, a moment for the backend to be done
// with them, and some for the path. What a fault feigns meets no interrupt so.
const (
	rounds           = 10
	ordinaryOfRound  = 30
	pathOfRound      = 4
	pauseWithinRound = 20 * time.Millisecond

	// More than a small head holds. The sizes of larger ones are powers of two, so that none
	// straddles a page boundary, which drops a packet where scatter-gather is off.
	ordinaryOfRowLength = 600
)

// inRounds sends ordinary datagrams with n calls of one after each burst of them.
func inRounds(t *testing.T, n int, one func() error) (ordinary uint64) {
	t.Helper()
	datagrams, err := rocket.NewDatagrams(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), ordinaryPort), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagrams.Close() }()
	for range rounds {
		if err := datagrams.Send(t.Context(), ordinaryOfRound, ordinaryOfRowLength); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pauseWithinRound)
		for range n {
			if err := one(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return rounds * ordinaryOfRound
}

func (r *row) address(t *testing.T) netip.AddrPort {
	return netip.AddrPortFrom(peerAddr(t, "ipv4"), uint16(r.port))
}

// plain sends small datagrams.
func plain(t *testing.T, r *row) sent {
	datagrams, err := rocket.NewDatagrams(t.Context(), r.address(t), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagrams.Close() }()
	s := sent{path: rounds * pathOfRound, struck: rounds * pathOfRound}
	s.ordinary = inRounds(t, pathOfRound, func() error { return datagrams.Send(t.Context(), 1, 100) })
	if r.unreported {
		s.struck = s.path + s.ordinary // every packet
	}
	return s
}

// manySlots sends datagrams of more slots than the driver takes.
func manySlots(t *testing.T, r *row) sent {
	rockets, err := rocket.NewUDP(t.Context(), r.address(t), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rockets.Close() }()
	s := sent{path: rounds * pathOfRound, struck: rounds * pathOfRound}
	s.ordinary = inRounds(t, pathOfRound, func() error {
		_, err := rockets.Send(t.Context())
		return err
	})
	return s
}

// tooBig sends the largest datagrams that UDP has, one packet each.
func tooBig(t *testing.T, r *row) sent {
	conn, err := net.Dial("udp", r.address(t).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	payload := make([]byte, 65507)
	s := sent{path: rounds * pathOfRound, struck: rounds * pathOfRound}
	s.ordinary = inRounds(t, pathOfRound, func() error {
		_, err := conn.Write(payload)
		return err
	})
	return s
}

// smallDatagrams sends datagrams whose heads come from all over their slab, since
// thousands of others are held. How many of those straddle a page boundary is chance: it goes
// on until some did.
func smallDatagrams(t *testing.T, r *row) sent {
	const held, n, enough, rounds = 8000, 480, 4 * leastStruck, 10
	var s sent
	before := counters(t)
	for range rounds {
		heads, err := rocket.Hold(t.Context(), held, 300)
		if err != nil {
			t.Fatal(err)
		}
		sendSizes(t, r.address(t), n)
		if err := heads.Close(); err != nil {
			t.Fatal(err)
		}
		if s.path += n; counters(t).since(before).dropped >= enough {
			break
		}
	}
	return s
}

// completions sends much that is good: datagrams, and a stream that the interface
// cuts into segments.
func completions(t *testing.T, r *row) sent {
	const n, streamPort, bytes = 5000, 7011, 1 << 20
	sendOrdinary(t, uint16(r.port), n)
	stream, err := rocket.NewStream(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), streamPort), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Bulk(t.Context(), bytes); err != nil {
		t.Fatal(err)
	}
	if err := stream.WaitAcknowledged(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	return sent{path: n}
}
