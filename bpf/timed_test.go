package bpf

import (
	"slices"
	"testing"
)

// every is completion_sample of the fake front.
const every = 17

// send sends packets of one slot, whose requests have the ids from first on.
func (f *front) send(requests, responses uint32, first uint16, packets int) {
	for n := range packets {
		f.indices(requests+uint32(n), responses)
		f.begin()
		f.request(requests+uint32(n), first+uint16(n))
		f.indices(requests+uint32(n)+1, responses)
		f.end(0)
	}
}

// ids are those from first on.
func ids(first uint16, packets int) []uint16 {
	all := make([]uint16, packets)
	for n := range all {
		all[n] = first + uint16(n)
	}
	return all
}

// One packet in 17 is timed, the first one too; every other figure is of all packets.
func TestPacketsTimed(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		const packets = 2*every + 1
		f.connected(1000)
		f.send(1000, 1000, 50, packets)
		if state := f.state(); state.Timed != uint32(3*f.timed) {
			t.Errorf("%d packets wait for their response, want %d", state.Timed, 3*f.timed)
		}
		for n := range packets {
			want := n%every == 0 && f.timed > 0
			if sent := f.state().Sent[50+n]; (sent != 0) != want {
				t.Errorf("sent[%d] is %#x: timed is to be %v", 50+n, sent, want)
			}
		}
		f.respond(1000+packets, 1000, ids(50, packets)...)
		c := f.counted()
		if c.Packets != packets || c.Slots != packets || c.Responses != packets || c.ResponseRuns != 1 {
			t.Errorf("%d packets, %d slots, %d responses in %d runs, want %d of each in 1", c.Packets, c.Slots, c.Responses, c.ResponseRuns, packets)
		}
		var occupancy, times uint64
		for _, n := range c.Occupancy {
			occupancy += n
		}
		for _, n := range c.CompletionUs {
			times += n
		}
		if occupancy != packets || c.Completions != 3*f.timed || times != 3*f.timed || f.state().Timed != 0 {
			t.Errorf("occupancy of %d packets, %d completions, %d times, %d timed: want %d, %d, %d, 0", occupancy, c.Completions, times, f.state().Timed, packets, 3*f.timed, 3*f.timed)
		}
	})
}

// While no packet is timed, responses are counted and not looked at.
func TestResponsesToPacketsNotTimed(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		f.connected(1000)
		f.send(1000, 1000, 50, 1)
		f.respond(1001, 1000, 50)
		before := f.state().Sent
		f.send(1001, 1001, 60, every-1)
		f.respond(1017, 1001, ids(60, every-1)...)
		if after := f.state().Sent; after != before {
			t.Error("responses were looked at")
		}
		if c := f.counted(); c.Completions != f.timed || c.Responses != every {
			t.Errorf("%d completions, %d responses, want %d and %d", c.Completions, c.Responses, f.timed, every)
		}
	})
}

// A timed packet that gets no response is waited for no longer once that is known.
func TestTimedPacketsWithoutResponse(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(f *front)
	}{
		{"handed back", func(f *front) { f.end(0x10) }},
		{"not put on the ring", func(f *front) { f.end(0) }},
		{"end missed", func(f *front) {
			f.end(0)
			for range every - 1 {
				f.begin()
			}
			f.run(CongestionProgCongestionBegin, f.at(atCopy), f.at(atDev)) // timed
			if timed := f.state().Timed; timed != uint32(f.timed) {
				f.t.Errorf("%d packets timed, want %d", timed, f.timed)
			}
			f.end(0) // of one below it
		}},
		{"connected again", func(f *front) {
			f.request(1000, 77)
			f.indices(1001, 1000)
			f.end(0)
			f.respond(5, 0, 3)
		}},
		{"id used again", func(f *front) {
			f.request(1000, 77)
			f.indices(1001, 1000)
			f.end(0)
			f.send(1001, 1000, 100, every-1)
			f.send(1017, 1000, 77, 1)
			f.respond(1018, 1017, 77)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			forBothWays(t, func(t *testing.T, f *front) {
				f.connected(1000)
				f.indices(1000, 1000)
				f.begin()
				if timed := f.state().Timed; timed != uint32(f.timed) {
					t.Errorf("%d packets timed, want %d", timed, f.timed)
				}
				test.end(f)
				if timed := f.state().Timed; timed != 0 {
					t.Errorf("%d packets wait for their response, want none", timed)
				}
			})
		})
	}
}

// Packets of sizes at the bounds of buckets.
func TestSizeBuckets(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		want := make([]uint64, len(f.counted().Sizes))
		for _, test := range []struct {
			size   uint32
			bucket int
		}{
			{1, 1}, {2, 2}, {3, 3}, {4, 3}, {5, 4}, {60, 7}, {64, 7}, {65, 8}, {255, 9}, {256, 9}, {257, 10}, {512, 10},
			{513, 11}, {1024, 11}, {1025, 12}, {1514, 12}, {32768, 16}, {32769, 17}, {65536, 17}, {65537, 17}, {500_000, 17},
		} {
			f.arena.packet(atSkb, f.arena.page(), test.size, nil)
			f.arena.flush()
			f.begin()
			f.end(0)
			want[test.bucket]++
		}
		if c := f.counted(); !slices.Equal(c.Sizes[:], want) {
			t.Errorf("sizes %v, want %v", c.Sizes, want)
		}
	})
}
