package trace

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
	"xentrace/test/need"
)

// testRegistry is a registry whose counters the test writes in the BPF programs' place.
type testRegistry struct {
	*registry
	t    *testing.T
	cpus int
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	need.Root(t, "to make BPF maps")
	spec, err := bpf.LoadXentrace()
	if err != nil {
		t.Fatal(err)
	}
	newMap := func(name string) *ebpf.Map {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	drivers := new(generations)
	drivers.begin(0, "").resolve(netfront.Answer{Value: netfront.Drops})
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	return &testRegistry{newRegistry(newMap(bpf.XentraceMapInterfaces), newMap(bpf.XentraceMapCountersOf), testCaches(t), drivers), t, cpus}
}

// send counts packets of one slot, and drops over the limit, at an index, on the last CPU.
func (r *testRegistry) send(slot uint32, packets, drops uint64) {
	r.t.Helper()
	var all []bpf.XentraceCounters
	if err := r.counters.Lookup(slot, &all); err != nil {
		r.t.Fatal(err)
	}
	c := &all[r.cpus-1]
	c.Slots[1] += packets
	c.Dropped += drops
	c.Causes[event.TooManySlots] += drops
	if err := r.counters.Put(slot, all); err != nil {
		r.t.Fatal(err)
	}
}

// appears registers an interface of xen-netfront and returns its index.
func (r *testRegistry) appears(index int, reported bool) uint32 {
	r.t.Helper()
	i := netdev.Interface{Name: "eth0", Index: index, Namespace: 1, Driver: netdev.DriverNetfront}
	if _, err := r.add(r.t.Context(), i, reported); err != nil {
		r.t.Fatal(err)
	}
	return r.active[deviceKey{index, 1}].slot
}

func (r *testRegistry) goes(index int) {
	r.t.Helper()
	if _, known, err := r.remove(deviceKey{index, 1}); err != nil || !known {
		r.t.Fatalf("interface %d: known %v, %v", index, known, err)
	}
}

// lives returns the packets and the causes of each interface, in order.
func (r *testRegistry) lives() []interfaceTotals {
	r.t.Helper()
	all, err := r.totals(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// Each life of an interface keeps its counts, at an index that the next one does not get,
// and its drops keep the cause that the driver of that time had.
func TestInterfaceLives(t *testing.T) {
	r := newTestRegistry(t)
	first := r.appears(2, false)
	r.send(first, 10, 3)
	r.goes(2)
	r.drivers.begin(1000, "unloaded").resolve(netfront.Answer{Value: netfront.Linearizes})
	second := r.appears(3, false)
	r.send(second, 20, 4)
	r.send(first, 100, 100) // by a program that still ran: nobody's any more
	all := r.lives()
	if first == second || len(all) != 2 {
		t.Fatalf("indices %d and %d, %d interfaces, want two of each", first, second, len(all))
	}
	if all[0].Packets != 10 || !all[0].Gone || all[0].Causes[event.TooManySlots] != 3 || all[0].Causes[event.LinearizeFailed] != 0 {
		t.Errorf("the first life: %d packets, gone %v, causes %v", all[0].Packets, all[0].Gone, all[0].Causes)
	}
	if all[1].Packets != 20 || all[1].Gone || all[1].Causes[event.LinearizeFailed] != 4 || all[1].Causes[event.TooManySlots] != 0 {
		t.Errorf("the second life: %d packets, gone %v, causes %v", all[1].Packets, all[1].Gone, all[1].Causes)
	}
	if i, known := r.lookUp(deviceKey{2, 1}); !known || causeOverLimit(i.driver.answer.Value) != event.TooManySlots {
		t.Errorf("records of the first life are of a driver whose cause is %q", causeOverLimit(i.driver.answer.Value))
	}
}

// What was counted before an interface was registered is its own, whether the kernel
// side's word of it or the kernel's comes first.
func TestFirstPackets(t *testing.T) {
	for _, test := range []struct {
		name     string
		reported []bool // by the BPF program, in this order
	}{
		{"the BPF programs' report", []bool{true}},
		{"the kernel's event, then the kernel side's", []bool{false, true}},
		{"the BPF programs' report, then the kernel's event", []bool{true, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newTestRegistry(t)
			r.send(0, 5, 0)
			var slot uint32
			for _, reported := range test.reported {
				slot = r.appears(2, reported)
			}
			r.send(slot, 7, 0)
			r.goes(2)
			r.send(0, 2, 0) // of the next one
			r.appears(3, true)
			all := r.lives()
			if len(all) != 2 || all[0].Packets != 12 || all[1].Packets != 2 {
				t.Errorf("%+v: want 12 packets of the first and 2 of the second", all)
			}
		})
	}
}

// An interface that is moved to another namespace and back has its index again. It continues
// its counts, and the intervals add up to them.
func TestInterfaceThatComesBack(t *testing.T) {
	r := newTestRegistry(t)
	var before event.Totals
	var summed uint64
	for range 3 {
		r.send(r.appears(2, false), 10, 3)
		for range 2 { // while it is there, and after
			var now event.Totals
			for _, t := range r.lives() {
				now.Interfaces = append(now.Interfaces, t.InterfaceTotals)
			}
			for _, n := range now.Since(&before).Interfaces {
				summed += n.Packets
			}
			if before = now; !now.Interfaces[0].Gone {
				r.goes(2)
			}
		}
	}
	if all := r.lives(); len(all) != 1 || all[0].Packets != 30 || all[0].Causes[event.TooManySlots] != 9 {
		t.Errorf("%d entries, %d packets, causes %v: want 1, 30, 9", len(all), all[0].Packets, all[0].Causes)
	}
	if summed != 30 {
		t.Errorf("the intervals have %d packets, want 30", summed)
	}
}

// Places are given out again, the one longest free first.
func TestPlacesAreGivenOutAgain(t *testing.T) {
	r := newTestRegistry(t)
	places := int(r.counters.MaxEntries()) - 1
	last := r.appears(1, false)
	for index := 2; index < 3*places; index++ {
		slot := r.appears(index, false)
		if slot == last || slot == 0 {
			t.Fatalf("interface %d got index %d, the one before %d", index, slot, last)
		}
		r.send(slot, 1, 0)
		r.goes(index)
		last = slot
	}
	for n, life := range r.lives() {
		want := uint64(1)
		switch {
		case n == 0: // the first is there still, and sent nothing
			want = 0
		case life.Index == 0:
			want = uint64(3*places - 2 - maxGone)
		}
		if life.Packets != want {
			t.Fatalf("life %d: %d packets, want %d", n, life.Packets, want)
		}
	}
}

// Any number of interfaces may come and go: the counts of the old ones are kept together, and
// nothing is lost or counted twice, also between two snapshots.
func TestLivesAreBounded(t *testing.T) {
	r := newTestRegistry(t)
	const lives = 500
	var before event.Totals
	var summed uint64
	for n := range lives {
		if n == lives/2 {
			r.drivers.begin(1000, "unloaded").resolve(netfront.Answer{Value: netfront.Linearizes})
		}
		r.send(r.appears(2+n, false), 10, 3)
		r.goes(2 + n)
		var now event.Totals
		for _, t := range r.lives() {
			now.Interfaces = append(now.Interfaces, t.InterfaceTotals)
		}
		d := now.Since(&before)
		for i := range d.Interfaces {
			summed += d.Interfaces[i].Packets
		}
		before = now
	}
	all := r.lives()
	if len(all) != maxGone+1 || len(r.all) != maxGone || len(*r.known.Load()) != maxGone {
		t.Fatalf("%d entries, %d interfaces, %d known: want %d, and one for the rest", len(all), len(r.all), len(*r.known.Load()), maxGone)
	}
	rest := &all[maxGone]
	var packets uint64
	for _, i := range all {
		packets += i.Packets
	}
	if rest.Name != restName || rest.Packets != 10*(lives-maxGone) || packets != 10*lives || summed != packets {
		t.Errorf("%q has %d packets, all have %d, and the intervals %d", rest.Name, rest.Packets, packets, summed)
	}
	if many, failed := rest.Causes[event.TooManySlots], rest.Causes[event.LinearizeFailed]; many != 3*lives/2 || failed != 3*(lives/2-maxGone) {
		t.Errorf("causes %v: want %d and %d", rest.Causes, 3*lives/2, 3*(lives/2-maxGone))
	}
	if missing := r.missing(); !strings.Contains(missing, "436 interfaces that are gone") {
		t.Errorf("missing: %q", missing)
	}
}

// testCaches are those of programs of their own.
func testCaches(t *testing.T) *deviceCaches {
	t.Helper()
	collection, err := loadPrograms(kernel.NewTypes(), bpf.XentraceProgTracepointXdp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(collection.Close)
	return &deviceCaches{generation: collection.Variables[bpf.XentraceVarGeneration]}
}
