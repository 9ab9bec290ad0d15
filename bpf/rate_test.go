package bpf

import (
	"runtime"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/test/need"
)

// limit allows so many records since the start for all, and for each share.
func (p *programs) limit(all, share uint64) {
	p.t.Helper()
	var limit XentraceRatePools
	for i := range limit.Records {
		limit.Records[i] = share
	}
	limit.Records[0] = all
	for entry, pools := range map[XentraceRateEntry]XentraceRatePools{
		XentraceRateEntryRATE_TAKEN: {}, XentraceRateEntryRATE_LIMIT: limit,
	} {
		if err := p.collection.Maps[XentraceMapRates].Put(uint32(entry), pools); err != nil {
			p.t.Fatal(err)
		}
	}
}

// suppressions is how Counters.Suppressed is indexed.
func suppressions(verdict XentraceVerdict, cause XentraceCause) int {
	if verdict == XentraceVerdictVERDICT_DROPPED {
		return int(XentraceVerdictVERDICTS) + int(cause)
	}
	return int(verdict)
}

// limited loads the programs with a limit of records.
func limited(t *testing.T, a *arena, driverHooks uint8) *programs {
	t.Helper()
	p := loadPrograms(t, a, XentraceConfiguration{
		PageSize: 4096, DriverHooks: driverHooks, Records: 1, Rate: 1, PrivOffset: atPriv - atDev, BrokenOffset: 1, BounceOffset: 2,
	}, withAnyContextFree, func(spec *ebpf.CollectionSpec) error {
		return spec.Variables[XentraceVarElsewhereConfig].Set(XentraceElsewhereConfiguration{HasReason: 1, Consumed: 1})
	})
	p.completion(completionAt)
	return p
}

// Records of every fate are made up to the limit and counted beyond it, by verdict and
// cause; the packets' own counts are the same.
func TestRateOfFates(t *testing.T) {
	a := newArena(t)
	p := limited(t, a, 1)
	for _, f := range fates {
		reported := f.want != (XentraceCounters{})
		verdict := XentraceVerdictVERDICT_DROPPED
		switch {
		case f.want.Dropped != 0:
		case f.want.Linearized != 0:
			verdict = XentraceVerdictVERDICT_LINEARIZED
		default:
			verdict = XentraceVerdictVERDICT_BOUNCED
		}
		for _, allowed := range []uint64{0, 1} {
			t.Run(f.name, func(t *testing.T) {
				a.t, p.t = t, t
				p.limit(allowed, 0)
				p.play(&f)
				got, records := p.counted(fakeSlotID), len(p.ring())
				want := f.want
				want.Slots, want.Bytes = got.Slots, got.Bytes
				if f.cause != 0 {
					want.Causes[f.cause] = 1
				}
				wantRecords := 0
				switch {
				case reported && allowed == 0:
					want.Suppressed[suppressions(verdict, f.cause)] = 1
				case reported:
					wantRecords = 1
				}
				if got != want || records != wantRecords {
					t.Errorf("allowed %d: %d records, suppressed %v, dropped %d, linearized %d, bounced %d, want %d, %v, %d, %d, %d",
						allowed, records, got.Suppressed, got.Dropped, got.Linearized, got.Bounced,
						wantRecords, want.Suppressed, want.Dropped, want.Linearized, want.Bounced)
				}
			})
		}
	}
}

// Packets of another driver, and drops elsewhere.
func TestRateOfObservedPackets(t *testing.T) {
	a := newArena(t)
	p := limited(t, a, 0)
	a.device()
	a.packet(atSkb, a.page()+256, 66, rocket)
	a.flush()
	p.limit(2, 0)
	for range 5 {
		p.begin(atSkb)
	}
	overLimit := suppressions(XentraceVerdictVERDICT_OVER_LIMIT, 0)
	if got, records := p.counted(fakeSlotID), len(p.ring()); records != 2 || got.Suppressed[overLimit] != 3 || got.OverLimit != 5 {
		t.Errorf("over the limit: %d records, %d suppressed, %d counted, want 2, 3, 5", records, got.Suppressed[overLimit], got.OverLimit)
	}
	a.way(fakeWay{dev: atDev, link: true})
	a.flush()
	p.limit(2, 0)
	for range 5 {
		p.dropAt(dropLocation, someReason)
	}
	elsewhere := suppressions(XentraceVerdictVERDICT_DROPPED, XentraceCauseCAUSE_NONE)
	got, dropped, records := p.counted(fakeSlotID), p.elsewhere(fakeSlotID), len(p.ring())
	if records != 2 || got.Suppressed[elsewhere] != 3 || dropped.Dropped != 5 || dropped.Reasons[someReason] != 5 {
		t.Errorf("elsewhere: %d records, %d suppressed, %d counted, want 2, 3, 5", records, got.Suppressed[elsewhere], dropped.Dropped)
	}
}

// Packets that the backend rejected.
func TestRateOfRejections(t *testing.T) {
	r := newRingOf(t, XentraceConfiguration{PageSize: 4096, Records: 1, Rate: 1}, arenaSize)
	r.limit(1, 0)
	for id := range 3 {
		r.request(id, id+1)
	}
	r.packets()
	answers := []answer{{0, answerError}, {1, answerDropped}, {2, answerError}}
	r.collect(0, answers, len(answers))
	rejected := suppressions(XentraceVerdictVERDICT_REJECTED, 0)
	if got, records := r.counted(fakeSlotID), len(r.ring()); records != 1 || got.Suppressed[rejected] != 2 || got.Rejected != 3 {
		t.Errorf("%d records, %d suppressed, %d counted, want 1, 2, 3", records, got.Suppressed[rejected], got.Rejected)
	}
}

// A user's storm takes what is for all and its own share, and leaves another user's.
func TestRateIsShared(t *testing.T) {
	const storm, other = 1000, 33 // of different shares
	a := newArena(t)
	p := limited(t, a, 0)
	a.device()
	a.packet(atSkb, a.page()+256, 66, rocket)
	a.set(atSkb, a.address+atSock, "sk_buff", "sk")
	send := func(uid uint64, packets int) int {
		a.set(atSock, uid, "sock", "sk_uid")
		a.flush()
		for range packets {
			p.begin(atSkb)
		}
		return len(p.ring())
	}
	p.limit(10, 3)
	for _, test := range []struct {
		uid           uint64
		packets, want int
	}{
		{other, 2, 2},
		{storm, 50, 3 + 10},
		{other, 50, 1},
		{storm, 50, 0},
	} {
		if got := send(test.uid, test.packets); got != test.want {
			t.Errorf("user %d: %d records of %d, want %d", test.uid, got, test.packets, test.want)
		}
	}
}

// CPUs that meet at the limit never exceed it, and every record is made or counted.
func TestRateOnTwoCPUs(t *testing.T) {
	const each, most = 5000, 3000
	need.That(t, runtime.NumCPU() > 1, "2 CPUs")
	a := newArena(t)
	p := limited(t, a, 0)
	a.device()
	a.packet(atSkb, a.page()+256, 66, rocket)
	a.flush()
	p.limit(most, 0)
	var senders sync.WaitGroup
	for cpu := range uint32(2) {
		senders.Go(func() {
			options := &ebpf.RunOptions{Context: []uint64{a.address + atSkb, a.address + atDev}, CPU: cpu, Flags: 1 /* BPF_F_TEST_RUN_ON_CPU */}
			for range each {
				if _, err := p.collection.Programs[XentraceProgTracepointBegin].Run(options); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	suppressed := p.counted(fakeSlotID).Suppressed[suppressions(XentraceVerdictVERDICT_OVER_LIMIT, 0)]
	if records := uint64(len(p.ring())); records > most || records < most-1 || records+suppressed != 2*each {
		t.Errorf("%d records and %d suppressed of %d packets, want at most %d records", records, suppressed, 2*each, most)
	}
}
