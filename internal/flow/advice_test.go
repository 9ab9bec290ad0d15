package flow

import (
	"slices"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

// laidOut gives a record 17 fragments across pages.
func laidOut(p *event.Packet, size uint32) *event.Packet {
	p.HeadOffset, p.HeadLen, p.Slots, p.Limit = 254, 66, 35, 18
	p.Frags = nil
	for i := range uint32(17) {
		p.Frags = append(p.Frags, event.Frag{Offset: (4096 - size/2 + i*4096) % 32768, Size: size})
	}
	return p
}

// A flow that stalls has the advice that fits its segment and the machine; before,
// that of the cause. It reports how its packets are made up, and the last call.
func TestAdviceAndLayout(t *testing.T) {
	const cut, gather = "ip link set dev eth0 mtu 1500", "ethtool -K eth0 sg off"
	for _, test := range []struct {
		name  string
		size  uint32
		facts remedy.Facts
		want  string
	}{
		{"jumbo frames", 512, remedy.Facts{MTU: 9001}, cut},
		{"jumbo frames, small pieces", 80, remedy.Facts{MTU: 9001}, gather},
		{"ordinary frames", 80, remedy.Facts{MTU: 1500}, gather},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := NewTable(0, newFakeKernel())
			asked := 0
			table.Ask(func(d event.Device) remedy.Facts {
				asked++
				if d.Index == 0 {
					t.Errorf("asked about %+v", d)
				}
				test.facts.Interface = "eth0"
				return test.facts
			})
			s := &sender{port: 40000, address: 0xffff888000000001, una: 1000}
			first := laidOut(s.drop(0, s.una), test.size)
			first.Stack = []string{"xennet_start_xmit+0x1", "main.send+0x5 (/bin/x)"}
			none(t, table.Add(first))
			before := table.Snapshot(at(0))[0]
			if want := remedy.For(test.facts, verdict.OfCause(event.TooManySlots).Remedies...); !slices.Equal(before.Advice, want) {
				t.Errorf("advice %+v, want %+v", before.Advice, want)
			}
			f := only(t, table.Add(laidOut(s.drop(0.2, s.una), test.size)), event.Stalled)
			if asked == 0 || len(f.Advice) != 3 || f.Advice[0].Command != test.want {
				t.Errorf("asked %d times; advice %+v, want first %s", asked, f.Advice, test.want)
			}
			if !strings.HasPrefix(f.Layout, "17 fragments of ") || !strings.Contains(f.Layout, "all straddling a page boundary, 35 slots: many small writes") {
				t.Errorf("layout %q", f.Layout)
			}
			if !slices.Equal(f.Stack, first.Stack) {
				t.Errorf("stack %q", f.Stack)
			}
			none(t, table.Add(laidOut(s.drop(0.6, s.una), test.size)))
			if after := table.Snapshot(at(1))[0]; after.Advice[0].Command != test.want {
				t.Errorf("advice %+v after another drop", after.Advice)
			}
		})
	}
}

// In a storm of drops the machine is asked once, when somebody wants to know what helps, and
// again a second later.
func TestAdviceIsFoundWhenAskedFor(t *testing.T) {
	table := NewTable(0, nil)
	asked := 0
	table.Ask(func(event.Device) remedy.Facts { asked++; return remedy.Facts{Interface: "eth0", MTU: 1500} })
	s := &sender{port: 1, address: 1, una: 1000}
	for n := range 1000 {
		none(t, table.Add(s.drop(float64(n)/2000, s.una+uint32(n))))
	}
	if asked != 0 {
		t.Errorf("asked %d times before anybody wanted to know", asked)
	}
	if f := table.Snapshot(at(1))[0]; asked != 1 || len(f.Advice) == 0 {
		t.Errorf("asked %d times, advice %+v: want once", asked, f.Advice)
	}
	none(t, table.Add(s.drop(0.9, s.una+5000)))
	table.Snapshot(at(1))
	none(t, table.Add(s.drop(1.1, s.una+6000)))
	if f := table.Snapshot(at(2))[0]; asked != 2 || len(f.Advice) == 0 {
		t.Errorf("asked %d times, want again after a second", asked)
	}
	p := s.drop(1.2, s.una+7000)
	p.Cause = event.SGOff
	none(t, table.Add(p))
	none(t, table.Add(s.packet(1.3, event.Linearized))) // the advice goes by the drop before it
	want := remedy.For(remedy.Facts{Interface: "eth0", MTU: 1500}, verdict.OfCause(event.SGOff).Remedies...)
	if f := table.Snapshot(at(2))[0]; asked != 3 || !slices.Equal(f.Advice, want) {
		t.Errorf("asked %d times, advice %+v, want %+v", asked, f.Advice, want)
	}
}
