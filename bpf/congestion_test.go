package bpf

import (
	"encoding/binary"
	"runtime"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/test/need"
)

// Where the fake driver's parts lie, beside those of the fake packet.
const (
	atFrontInfo  = atPriv // what netdev_priv() returns
	atFrontQueue = 0xc000
	atFrontRing  = 0xe000
	atTxQueue    = 0x10000 // struct netdev_queue
	atListener   = 0x12000
	atAccepted   = 0x14000
	frontSlotID  = 1 // of the interface
)

var fakeFront = CongestionRingLayout{
	Id: 0x4, Info: 0x20, Netdev: 0x10, RspCons: 0x34, Sring: 0x38, Ring: 64,
	ReqProdPvt: 0x30, Queues: 0x18, QueueSize: 0x1000,
}

// front is the congestion programs on a fake frontend.
type front struct {
	t          *testing.T
	collection *ebpf.Collection
	arena      *arena
	timed      uint64 // 1 if the kernel has the exchange, without which no packet has a time
}

// newFront loads all programs but the one that knows a tracepoint's types. Those of fentry
// and fexit cannot be run by hand: as raw tracepoint programs they find their arguments at
// the same place.
func newFront(t *testing.T, typed uint8, edits ...func(*ebpf.CollectionSpec, *arena)) *front {
	t.Helper()
	a := newArena(t)
	a.device()
	spec, err := LoadCongestion()
	if err != nil {
		t.Fatal(err)
	}
	delete(spec.Programs, CongestionProgCongestionBeginTyped)
	for _, program := range spec.Programs {
		program.Type, program.AttachType, program.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, ""
	}
	queues := CongestionTxQueueConfiguration{QueuesEach: 2, CompletionSample: every}
	if HasExchange() {
		queues.Exchange = 1
	} else {
		RemoveExchanges(spec.Programs)
	}
	for name, value := range map[string]any{
		CongestionVarConfig:        CongestionConfiguration{PageSize: 4096, PrivOffset: atFrontInfo - atDev, Consumed: 1, TypedReads: typed},
		CongestionVarRingLayout:    fakeFront,
		CongestionVarTxQueueConfig: queues,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{CongestionMapQueueCountersOf, CongestionMapTransmitStateOf, CongestionMapReceiveCountersOf} {
		spec.Maps[name].MaxEntries = 4
	}
	for _, edit := range edits {
		edit(spec, a)
	}
	collection := newCollection(t, spec)
	f := &front{t, collection, a, uint64(queues.Exchange)}
	f.layOut()
	return f
}

func (f *front) layOut() {
	f.t.Helper()
	var index, netns uint32 = fakeIndex, fakeNetNS
	bucket := (index ^ netns<<8) * 0x9e3779b1 >> 24
	f.must(f.collection.Maps[CongestionMapInterfaces].Put(bucket, CongestionInterface{Ifindex: index, Netns: netns, Index: frontSlotID, Netfront: 1}))
	f.must(f.collection.Variables[CongestionVarNamespaces].Set([16]uint32{fakeNetNS}))
	f.must(f.collection.Variables[CongestionVarEnabled].Set(uint32(1)))
	f.put64(atFrontInfo, fakeFront.Queues, f.arena.address+atFrontQueue)
	f.put64(atFrontInfo, fakeFront.Netdev, f.arena.address+atDev)
	f.put64(atFrontQueue, fakeFront.Info, f.arena.address+atFrontInfo)
	f.put64(atFrontQueue, fakeFront.Sring, f.arena.address+atFrontRing)
	f.arena.set(atDev, f.arena.address+atTxQueue, "net_device", "_tx")
	f.arena.set(atTxQueue, f.arena.address+atDev, "netdev_queue", "dev")
	f.arena.packet(atSkb, f.arena.page(), 100, nil)
	f.arena.flush()
}

func (f *front) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *front) put64(at int, offset uint32, value uint64) {
	binary.NativeEndian.PutUint64(f.arena.memory[at+int(offset):], value)
}

func (f *front) put32(at int, offset uint32, value uint32) {
	binary.NativeEndian.PutUint32(f.arena.memory[at+int(offset):], value)
}

// indices sets those of the ring.
func (f *front) indices(requests, responses uint32) {
	f.put32(atFrontQueue, fakeFront.ReqProdPvt, requests)
	f.put32(atFrontQueue, fakeFront.RspCons, responses)
	f.arena.flush()
}

// stop sets whether the driver has stopped the queue.
func (f *front) stop(stopped bool) {
	var state uint64
	if stopped {
		state = 1 // __QUEUE_STATE_DRV_XOFF
	}
	f.arena.set(atTxQueue, state, "netdev_queue", "state")
	f.arena.flush()
}

func (f *front) run(name string, arguments ...uint64) {
	f.t.Helper()
	options := &ebpf.RunOptions{Context: arguments, CPU: 0, Flags: 1 /* BPF_F_TEST_RUN_ON_CPU */}
	_, err := f.collection.Programs[name].Run(options)
	f.must(err)
}

func (f *front) at(offset int) uint64 { return f.arena.address + uint64(offset) }

func (f *front) begin() { f.run(CongestionProgCongestionBegin, f.at(atSkb), f.at(atDev)) }

func (f *front) end(status uint64) {
	f.run(CongestionProgCongestionEnd, f.at(atSkb), status, f.at(atDev), 100)
}

// counted is what the queue's entry holds, on the CPU that all runs on.
func (f *front) counted() CongestionQueueCounters {
	f.t.Helper()
	var all []CongestionQueueCounters
	f.must(f.collection.Maps[CongestionMapQueueCountersOf].Lookup(uint32(2*frontSlotID), &all))
	return all[0]
}

func (f *front) state() CongestionTransmitState {
	f.t.Helper()
	var state CongestionTransmitState
	f.must(f.collection.Maps[CongestionMapTransmitStateOf].Lookup(uint32(2*frontSlotID), &state))
	return state
}

func forBothWays(t *testing.T, test func(*testing.T, *front)) {
	t.Helper()
	for _, typed := range waysOfReading(t, newArena(t)) {
		t.Run(map[uint8]string{0: "probe reads", 1: "plain loads"}[typed], func(t *testing.T) { test(t, newFront(t, typed)) })
	}
}

// connected puts the queue's rsp_cons on record, as the programs do at their start.
func (f *front) connected(responses uint32) {
	f.t.Helper()
	f.must(f.collection.Maps[CongestionMapTransmitStateOf].Put(uint32(2*frontSlotID), CongestionTransmitState{Queue: f.at(atFrontQueue), RspCons: responses}))
}

// request puts a request's id on the ring.
func (f *front) request(index uint32, id uint16) {
	binary.NativeEndian.PutUint16(f.arena.memory[atFrontRing+64+index%256*12+8:], id)
	f.arena.flush()
}

// respond puts responses on the ring and runs the hook of the driver that took them.
func (f *front) respond(requests, from uint32, ids ...uint16) {
	for i, id := range ids {
		binary.NativeEndian.PutUint16(f.arena.memory[atFrontRing+64+(from+uint32(i))%256*12:], id)
	}
	f.indices(requests, from+uint32(len(ids)))
	f.run(CongestionProgCongestionCompletion, f.at(atFrontQueue))
}

// A packet from the driver to the backend's response.
func TestPressureOfFakePacket(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		f.connected(1004)
		f.indices(1010, 1004)
		f.begin()
		f.run(CongestionProgCongestionNotify)
		f.request(1010, 77)
		f.indices(1012, 1004)
		f.end(0)
		if sent := f.state().Sent[77]; min(sent, 1) != f.timed || sent&responded != 0 {
			t.Errorf("sent[77] is %#x, want the time of the request", sent)
		}
		// Seven answers to earlier requests and the first of the packet's.
		f.respond(1012, 1004, 10, 11, 12, 13, 14, 15, 16, 77)
		f.run(CongestionProgCongestionCompletion, f.at(atFrontQueue)) // finds nothing
		c := f.counted()
		if c.Packets != 1 || c.Bytes != 100 || c.Slots != 1 || c.Sizes[8] != 1 || c.SlotsEach[1] != 1 || c.Occupancy[4] != 1 {
			t.Errorf("packets %d, bytes %d, slots %d, sizes %v, pieces %v, occupancy %v", c.Packets, c.Bytes, c.Slots, c.Sizes, c.SlotsEach, c.Occupancy)
		}
		if c.Responses != 8 || c.ResponseRuns != 1 || c.Completions != f.timed || min(c.CompletionNs, 1) != f.timed || c.Notifications != 1 {
			t.Errorf("responses %d in %d runs, completions %d of %d ns, notifications %d", c.Responses, c.ResponseRuns, c.Completions, c.CompletionNs, c.Notifications)
		}
		if sent := f.state().Sent[77]; sent != f.timed*(responded|1012) {
			t.Errorf("sent[77] is %#x, want a response at 1012", sent)
		}
	})
}

// responded is RESPONDED of tx_queue.h.
const responded = 1 << 63

// A response that is taken before the time of its packet is on record, behind one that the
// backend still owes: the packet is counted, and no time stays for another packet.
func TestResponseBeforeTheTimeIsRecorded(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		f.connected(1004)
		f.indices(1010, 1004)
		f.begin()
		f.request(1010, 77)
		f.respond(1011, 1004, 77)
		f.end(0)
		if c := f.counted(); c.Completions != f.timed || min(c.CompletionNs, 1) != f.timed || f.state().Sent[77] != 0 {
			t.Errorf("%d completions of %d ns, sent[77] is %#x: want %d, and nothing", c.Completions, c.CompletionNs, f.state().Sent[77], f.timed)
		}
	})
}

// Another CPU takes the response to an earlier request, and its id is used for the packet
// that is on its way: the response is not this packet's.
func TestResponseToAnEarlierUseOfTheID(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		f.connected(1004)
		f.indices(1010, 1004)
		f.begin()
		f.respond(1010, 1004, 77)
		f.request(1010, 77)
		f.indices(1011, 1005)
		f.end(0)
		if c := f.counted(); c.Completions != 0 {
			t.Errorf("%d completions before the response", c.Completions)
		}
		f.respond(1011, 1005, 77)
		if c := f.counted(); c.Completions != f.timed {
			t.Errorf("%d completions, want %d", c.Completions, f.timed)
		}
	})
}

// Times of an earlier connection of the frontend are forgotten with it.
func TestConnectionForgetsTimes(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		f.connected(1004)
		f.indices(1010, 1004)
		f.begin()
		f.request(1010, 77)
		f.indices(1011, 1004)
		f.end(0)
		f.respond(5, 0, 3) // of a new ring
		f.respond(5, 1, 77)
		if c := f.counted(); c.Completions != 0 || c.Responses != 1 {
			t.Errorf("%d completions, %d responses, want 0 and 1", c.Completions, c.Responses)
		}
	})
}

// Responses are counted once, on whatever CPUs xennet_tx_buf_gc() runs.
func TestResponsesOnTwoCPUs(t *testing.T) {
	need.That(t, runtime.NumCPU() > 1, "2 CPUs")
	forBothWays(t, func(t *testing.T, f *front) {
		f.must(f.collection.Maps[CongestionMapTransmitStateOf].Put(uint32(2*frontSlotID), CongestionTransmitState{Queue: f.at(atFrontQueue)}))
		run := func(cpu, responses uint32) {
			f.indices(300, responses)
			options := &ebpf.RunOptions{Context: []uint64{f.at(atFrontQueue)}, CPU: cpu, Flags: 1 /* BPF_F_TEST_RUN_ON_CPU */}
			_, err := f.collection.Programs[CongestionProgCongestionCompletion].Run(options)
			f.must(err)
		}
		for _, step := range [][2]uint32{{0, 3}, {0, 3}, {1, 3}, {1, 5}, {0, 5}, {0, 9}, {1, 9}, {1, 10}} {
			run(step[0], step[1])
		}
		var all []CongestionQueueCounters
		f.must(f.collection.Maps[CongestionMapQueueCountersOf].Lookup(uint32(2*frontSlotID), &all))
		if responses, runs := all[0].Responses+all[1].Responses, all[0].ResponseRuns+all[1].ResponseRuns; responses != 10 || runs != 4 {
			t.Errorf("%d responses in %d runs, want 10 in 4", responses, runs)
		}
	})
}

// A queue that is stopped behind a packet, and woken.
func TestPressureOfFakeStop(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		f.indices(230, 0)
		f.begin()
		f.stop(true)
		f.end(0)
		if c := f.counted(); c.Stops != 1 || c.Wakes != 0 || f.state().StoppedNs == 0 {
			t.Errorf("%d stops, %d wakes", c.Stops, c.Wakes)
		}
		f.stop(false)
		f.run(CongestionProgCongestionWake, f.at(atTxQueue))
		f.run(CongestionProgCongestionWake, f.at(atTxQueue))
		var wakes uint64
		c := f.counted()
		for _, n := range c.WakeUs {
			wakes += n
		}
		if c.Stops != 1 || c.Wakes != 1 || c.FullNs == 0 || wakes != 1 || f.state().StoppedNs != 0 {
			t.Errorf("%d stops, %d wakes, %d ns, histogram %v", c.Stops, c.Wakes, c.FullNs, c.WakeUs)
		}
	})
}

// What the driver does not take is no packet of its; what it drops or copies is distinguished.
func TestPressureOfFakeFates(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		f.begin()
		f.end(0x10) // NETDEV_TX_BUSY
		f.begin()
		f.run(CongestionProgCongestionFree, f.at(atSkb), 2)
		f.end(0)
		f.begin()
		f.run(CongestionProgCongestionFree, f.at(atSkb), 1)
		f.end(0)
		f.run(CongestionProgCongestionFree, f.at(atSkb), 2) // no packet is on its way
		f.run(CongestionProgCongestionNotify)
		f.arena.packet(atSkb, f.arena.page(), 100, slices.Repeat([]fakeFrag{{0, 10}}, 18))
		f.arena.flush()
		f.begin()
		f.end(0)
		c := f.counted()
		if c.Packets != 3 || c.Busy != 1 || c.Dropped != 1 || c.Bounced != 1 || c.Linearized != 1 || c.Notifications != 0 || c.Slots != 1+1+19 {
			t.Errorf("%+v", c)
		}
	})
}

// Payload is what lies behind the transport header.
func TestPayloadOfFakePackets(t *testing.T) {
	forBothWays(t, func(t *testing.T, f *front) {
		head := uint64(atHead)
		for _, test := range []struct {
			name     string
			ethernet uint64
			protocol byte
			at       int    // of the protocol, in the network header
			headers  uint64 // link, network and transport
		}{
			{"UDP over IPv4", 0x0800, 17, 9, 14 + 20 + 8},
			{"TCP over IPv6", 0x86dd, 6, 6, 14 + 40 + 32},
			{"ARP", 0x0806, 0, 0, 0},
		} {
			before := f.counted()
			f.arena.packet(atSkb, f.at(atHead)+64, 300, nil)
			f.arena.set(atSkb, f.at(atHead), "sk_buff", "head")
			f.arena.set(atSkb, 0x8000, "sk_buff", "end")
			f.arena.set(atSkb, test.ethernet>>8|test.ethernet<<8&0xffff, "sk_buff", "protocol")
			network := uint64(64 + 14)
			transport := network + 20
			if test.ethernet == 0x86dd {
				transport = network + 40
			}
			f.arena.set(atSkb, network, "sk_buff", "network_header")
			f.arena.set(atSkb, transport, "sk_buff", "transport_header")
			f.arena.memory[head+network+uint64(test.at)] = test.protocol
			f.arena.memory[head+transport+12] = 8 << 4 // words of a TCP header
			f.arena.flush()
			f.begin()
			f.end(0)
			after := f.counted()
			payload, small := after.Payload-before.Payload, after.SmallPackets-before.SmallPackets
			if want := 300 - test.headers; payload != want || small != map[bool]uint64{true: 1}[want < 256] {
				t.Errorf("%s: %d bytes of payload, %d small, want %d", test.name, payload, small, want)
			}
		}
	})
}

// Polls of the driver, and connections of the namespace.
func TestPollsAndFakeConnections(t *testing.T) {
	f := newFront(t, 0)
	f.arena.set(atCopy, f.at(atDev), "napi_struct", "dev")
	for _, sk := range []int{atListener, atAccepted} {
		f.arena.set(sk, f.at(atNet), "sock", "__sk_common", "skc_net", "net")
		f.arena.set(sk, 6, "sock", "sk_protocol")
	}
	f.arena.set(atListener, 80, "sock", "__sk_common", "skc_num")
	f.arena.set(atListener, 4, "sock", "sk_ack_backlog")
	f.arena.set(atListener, 4, "sock", "sk_max_ack_backlog")
	f.arena.set(atAccepted, 8*1000, "tcp_sock", "srtt_us")
	f.arena.flush()
	f.run(CongestionProgCongestionPoll, f.at(atCopy), 64, 64)
	f.run(CongestionProgCongestionPoll, f.at(atCopy), 3, 64)
	var received []CongestionReceiveCounters
	f.must(f.collection.Maps[CongestionMapReceiveCountersOf].Lookup(uint32(frontSlotID), &received))
	if r := received[0]; r.Polls != 2 || r.Packets != 67 || r.Exhausted != 1 {
		t.Errorf("%+v", r)
	}
	const established, synSent, synRecv, closed, closeWait, listening = 1, 2, 3, 7, 8, 10
	for _, change := range [][2]uint64{
		{synRecv, established}, {synSent, established}, {closeWait, closed}, {synSent, closed}, {listening, closed}, {established, closeWait},
	} {
		f.run(CongestionProgCongestionState, f.at(atAccepted), change[0], change[1])
	}
	f.run(CongestionProgCongestionState, f.at(atAccepted), synRecv, established)
	f.run(CongestionProgCongestionAcceptOfFour, f.at(atListener), 0, 0, 0, f.at(atAccepted))
	f.run(CongestionProgCongestionAccept, f.at(atListener), 0, f.at(atAccepted))
	f.run(CongestionProgCongestionAccept, f.at(atListener), 0, 0) // none came
	var all []CongestionTcpCounters
	f.must(f.collection.Maps[CongestionMapTcpCountersOf].Lookup(uint32(0), &all))
	c := all[0]
	var times uint64
	for _, n := range c.AcceptUs[11:] { // the handshake alone took 1000 microseconds
		times += n
	}
	if c.Opened != 3 || c.Established != 2 || c.Closed != 1 || c.Accepts != 2 || times != 1 {
		t.Errorf("%+v", c)
	}
	var l CongestionListener
	f.must(f.collection.Maps[CongestionMapListeners].Lookup(CongestionListenerKey{Netns: fakeNetNS, Port: 80}, &l))
	if l.Accepts != 2 || l.Longest != 5 || l.Limit != 4 || l.Full != 2 {
		t.Errorf("%+v", l)
	}
}

// A wake that came in the moment before its stop was noted is found at the next packet,
// and took no time.
func TestPressureOfFakeStopThatWasWoken(t *testing.T) {
	f := newFront(t, 0)
	f.indices(230, 0)
	f.begin()
	f.stop(true)
	f.end(0)
	f.stop(false) // by a wake that saw no stop
	f.begin()
	f.end(0)
	if c := f.counted(); c.Stops != 1 || c.Wakes != 1 || c.FullNs != 0 || c.WakeUs[0] != 1 || f.state().StoppedNs != 0 {
		t.Errorf("%d stops, %d wakes, %d ns, histogram %v", c.Stops, c.Wakes, c.FullNs, c.WakeUs)
	}
}
