package rocket

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// newExact makes a sender at the near end, which is there whenever the kernel has
// huge pages for whoever asks.
func (p *pair) newExact(t *testing.T, remote netip.AddrPort) *Exact {
	t.Helper()
	var sender *Exact
	p.near.do(t, func() (err error) {
		sender, err = NewExact(t.Context(), remote, Options{})
		return err
	})
	t.Cleanup(func() { sender.Close() })
	return sender
}

// hugePages reports whether the kernel gives them to who asks.
func hugePages(t *testing.T) bool {
	t.Helper()
	setting, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	must(t, err)
	return !strings.Contains(string(setting), "[never]")
}

func TestExact(t *testing.T) {
	for _, test := range []struct {
		name     string
		at       netip.Addr
		overhead int
	}{{"IPv4", farAddress, 42}, {"IPv6", farAddress6, 62}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, 1500)
			sink := p.udpSink(t, test.at)
			if !hugePages(t) {
				p.near.do(t, func() error {
					if _, err := NewExact(t.Context(), sink.Local(), Options{}); !errors.Is(err, ErrNoHugePage) {
						t.Errorf("error is %v, want %v", err, ErrNoHugePage)
					}
					return nil
				})
				return
			}
			sender := p.newExact(t, sink.Local())
			o := observe(t, p.ifindex, p.near.inum)
			total := uint64(0)
			for slots := MinExactSlots; slots <= MaxExactSlots; slots++ {
				for range 4 {
					sent, err := sender.Send(t.Context(), slots)
					must(t, err)
					if sent.Slots != slots || sent.Length != sent.Writes*16 || sent.Number != total {
						t.Fatalf("sent %+v", sent)
					}
					exactly(t, ofLength(o.packets(t), sent.Length+test.overhead), 1, slots)
					total++
				}
			}
			got := settled(t, sink.Received, func(r UDPReceived) bool { return r.Datagrams == total })
			if got.Datagrams != total || got.Foreign != 0 || got.Corrupt != nil {
				t.Errorf("received %+v, want %d datagrams", got, total)
			}
			if _, err := sender.Send(t.Context(), MaxExactSlots+1); err == nil {
				t.Error("a packet of too many slots was sent")
			}
			if _, err := sender.Send(t.Context(), MinExactSlots-1); err == nil {
				t.Error("a packet of too few slots was sent")
			}
		})
	}
}

func TestExactMany(t *testing.T) {
	if !hugePages(t) {
		return // TestExact saw that it says so
	}
	p := newPair(t, 1500)
	sink := p.udpSink(t, farAddress)
	sender := p.newExact(t, sink.Local())
	o := observe(t, p.ifindex, p.near.inum)
	const n = 2000
	sent, err := sender.SendMany(t.Context(), 19, n)
	must(t, err)
	if sent.Number != n-1 {
		t.Errorf("sent %+v", sent)
	}
	exactly(t, ofLength(o.packets(t), sent.Length+42), n, 19)
	got := settled(t, sink.Received, func(r UDPReceived) bool { return r.Datagrams+uint64(r.Refused) == n })
	if got.Datagrams+uint64(got.Refused) != n || got.Corrupt != nil || got.Foreign != 0 {
		t.Errorf("received %+v, want %d datagrams", got, n)
	}
}

func TestHugePageIsSeenInSmaps(t *testing.T) {
	const smaps = `7f0000000000-7f0000200000 rw-p 00000000 00:00 0
Size:               2048 kB
AnonHugePages:      2048 kB
VmFlags: rd wr mr mw me ac sd hg
7f0000200000-7f0000400000 rw-p 00000000 00:00 0
AnonHugePages:         0 kB
7f0000400000-7f0000600000 rw-p 00000000 00:00 0
Size:               2048 kB
7f0000600000-7f0000800000 rw-p 00000000 00:00 0 /a file 7f0000000000-7f0000200000
AnonHugePages:      2048 kB
`
	for address, want := range map[uint64]bool{
		0x7f0000000000: true, 0x7f00001fffff: true, 0x7f0000200000: false, 0x7f0000400000: false,
		0x7f0000600000: true, 0x7f0000800000: false, 0: false,
	} {
		got, err := hugeIn(bufio.NewScanner(strings.NewReader(smaps)), address)
		must(t, err)
		if got != want {
			t.Errorf("%#x: %v, want %v", address, got, want)
		}
	}
}
