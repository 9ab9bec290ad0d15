package netns

import (
	"net/netip"
	"testing"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// perSize is how many packets of each number of slots are sent.
const perSize = 5

// Packets built to be n slots, n from 2 to 34: the histogram shows just these,
// and records report those above the limit only, by their own parts.
func TestSlotsAreExact(t *testing.T) {
	for _, test := range []struct {
		name, family string
		at           netip.Prefix
		from         netip.Prefix
	}{{"IPv4", "ipv4", farAddress, nearAddress}, {"IPv6", "ipv6", farAddress6, nearAddress6}} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			sender := l.exact(l.udpSink(test.at.Addr()).Local())
			base := transmitted(t, l.near)
			watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json")
			hist := tool.Start(t, xentrace, "hist", "-i", "near", "-o", "json", "-d", "0")
			sent := sendEachSize(t, sender)
			counted, watched := hist.Stop(), watch.Stop()

			if len(counted.Packets) != 0 {
				t.Errorf("hist made %d records", len(counted.Packets))
			}
			heads := checkRecords(t, watched.Packets, sent, tool.Flow{
				Family: test.family, Proto: "udp", Saddr: test.from.Addr().String(), Sport: int(sender.Local().Port()),
				Daddr: test.at.Addr().String(), Dport: int(sent[rocket.MinExactSlots].Remote.Port()),
			})
			for name, output := range map[string]*tool.Output{"hist": &counted, "watch": &watched} {
				checkHistogram(t, name, output.Only(t), transmitted(t, l.near)-base, heads)
			}
		})
	}
}

func sendEachSize(t *testing.T, sender *rocket.Exact) map[int]rocket.Sent {
	t.Helper()
	sent := make(map[int]rocket.Sent)
	for n := rocket.MinExactSlots; n <= rocket.MaxExactSlots; n++ {
		for range perSize {
			s, err := sender.Send(t.Context(), n)
			must(t, err)
			sent[n] = s
		}
	}
	return sent
}

// straddling is how many packets of each size had their head across a page
// boundary, which takes one slot more than they were built for: since 6.3 heads
// come from a slab whose objects do not divide a page.
type straddling map[int]uint64

func checkHistogram(t *testing.T, name string, i *tool.Interface, transmitted uint64, records straddling) {
	t.Helper()
	const sizes = rocket.MaxExactSlots - rocket.MinExactSlots + 1
	shifted := uint64(0) // from the bucket before
	for n := rocket.MinExactSlots; n <= rocket.MaxExactSlots+1; n++ {
		there := shifted
		if n <= rocket.MaxExactSlots {
			there += perSize
		}
		if i.Slots[n] > there || there-i.Slots[n] > perSize {
			t.Errorf("%s: %d packets of %d slots, want %d but for those whose head straddles: %v", name, i.Slots[n], n, there, i.Slots)
			return
		}
		shifted = there - i.Slots[n]
		if n >= limit && shifted != records[n] {
			t.Errorf("%s: %d packets of %d slots, the records tell of %d whose head straddles", name, i.Slots[n], n, records[n])
		}
	}
	if i.Packets != sizes*perSize || i.Counted() != i.Packets || transmitted != i.Packets {
		t.Errorf("%s: %d packets, %d in the histogram, %d counted by the interface: want %d",
			name, i.Packets, i.Counted(), transmitted, sizes*perSize)
	}
	if want := uint64(rocket.MaxExactSlots-limit)*perSize + records[limit]; i.OverLimit != want || i.Limit != limit {
		t.Errorf("%s: %d over a limit of %d, want %d over %d", name, i.OverLimit, i.Limit, want, limit)
	}
	if i.Driver != "veth" || i.Backend != "tracepoint" || i.Dropped != 0 || i.Linearized != 0 || i.Bounced != 0 {
		t.Errorf("%s: %+v, want what a veth can tell", name, *i)
	}
	if i.TxDroppedDelta == nil || *i.TxDroppedDelta != 0 {
		t.Errorf("%s: tx_dropped_delta %v, want 0", name, i.TxDroppedDelta)
	}
}

// checkRecords checks every record, and returns how many heads straddle.
func checkRecords(t *testing.T, records []tool.Packet, sent map[int]rocket.Sent, flow tool.Flow) straddling {
	t.Helper()
	heads := make(straddling)
	seen := make(map[int]int)
	headers := 14 + 20 + 8
	if flow.Family == "ipv6" {
		headers += 20
	}
	for n, p := range records {
		head := (p.HeadOffset%4096 + p.HeadLen + 4095) / 4096
		built := 1 + p.SlotsOfParts() - head
		seen[built]++
		if head == 2 {
			heads[built]++
		}
		if p.Slots != p.SlotsOfParts() || p.Slots <= limit || p.Limit != limit || head > 2 {
			t.Errorf("record %d: %d of %d slots, its parts need %d", n, p.Slots, p.Limit, p.SlotsOfParts())
		}
		if p.Verdict != "over_limit" || p.Cause != nil || p.Layer != "driver" || p.Ifname != "near" {
			t.Errorf("record %d: %s, cause %v, layer %s, interface %s", n, p.Verdict, p.Cause, p.Layer, p.Ifname)
		}
		if p.Flow == nil || *p.Flow != flow || p.TCP != nil {
			t.Errorf("record %d: flow %+v, tcp %v: want %+v", n, p.Flow, p.TCP, flow)
		}
		length := headers + sent[built].Length
		if p.Len != length || p.HeadLen != headers || p.GSOSize != 0 || p.GSOSegs != 0 || len(p.Frags) != sent[built].Writes {
			t.Errorf("record %d: %d bytes, head %d, gso %d/%d, %d frags: want %d bytes, head %d, %d frags",
				n, p.Len, p.HeadLen, p.GSOSize, p.GSOSegs, len(p.Frags), length, headers, sent[built].Writes)
		}
	}
	for n := limit + 1; n <= rocket.MaxExactSlots; n++ {
		if seen[n] != perSize {
			t.Errorf("%d records of packets built to be %d slots, want %d", seen[n], n, perSize)
		}
	}
	if want := (rocket.MaxExactSlots-limit)*perSize + int(heads[limit]); len(records) != want {
		t.Errorf("%d records, want %d", len(records), want)
	}
	return heads
}
