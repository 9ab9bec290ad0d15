package trace

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/flow"
	"xentrace/internal/output"

	"xentrace/bpf"
)

// syntheticRecords are ring records of every verdict, cause, kind of flow and number of
// fragments that matters, and of one connection that stalls and loses four more packets.
func syntheticRecords() [][]byte {
	var all [][]byte
	at := uint64(5_000_000_007)
	add := func(frags int, change func(*bpf.XentracePacketEvent)) {
		e := tcpEvent(frags)
		e.TimeNs = at
		at += 250_000_000
		if change != nil {
			change(e)
		}
		all = append(all, raw(e, frags))
	}
	ipv4 := func(e *bpf.XentracePacketEvent, source, destination string, sport, dport uint16, proto uint8) {
		e.Flow.Saddr, e.Flow.Daddr = [16]uint8{}, [16]uint8{}
		s, d := netip.MustParseAddr(source).As4(), netip.MustParseAddr(destination).As4()
		copy(e.Flow.Saddr[:], s[:])
		copy(e.Flow.Daddr[:], d[:])
		e.Flow.Family, e.Flow.Sport, e.Flow.Dport, e.Flow.Proto = 4, sport, dport, proto
	}
	for verdict := bpf.XentraceVerdictVERDICT_DROPPED; verdict <= bpf.XentraceVerdictVERDICT_REJECTED; verdict++ {
		add(17, func(e *bpf.XentracePacketEvent) {
			e.Verdict, e.Flow.Sport = verdict, uint16(1000+int(verdict))
			if verdict != bpf.XentraceVerdictVERDICT_DROPPED {
				e.Cause = bpf.XentraceCauseCAUSE_NONE
			}
		})
	}
	for cause := bpf.XentraceCauseCAUSE_NO_QUEUES; cause <= bpf.XentraceCauseCAUSE_UNKNOWN; cause++ {
		add(int(cause), func(e *bpf.XentracePacketEvent) {
			e.Cause, e.Slots = cause, uint16(2+int(cause))
			ipv4(e, "192.0.2.1", "198.51.100.2", uint16(2000+int(cause)), 443, 6)
		})
	}
	add(0, func(e *bpf.XentracePacketEvent) { e.Flow.Family, e.Flow.HasSeq, e.Tcp.Present = 0, 0, 0 })
	add(45, func(e *bpf.XentracePacketEvent) {
		ipv4(e, "10.0.0.1", "10.0.0.2", 53, 5353, 17)
		e.Flow.HasSeq, e.Tcp.Present = 0, 0
	})
	add(1, func(e *bpf.XentracePacketEvent) {
		ipv4(e, "10.0.0.1", "10.0.0.2", 0, 0, 4)
		e.Flow.HasSeq, e.Tcp.Present = 0, 0
	})
	add(2, func(e *bpf.XentracePacketEvent) {
		ipv4(e, "10.0.0.1", "10.0.0.2", 0, 0, 1)
		e.Flow.HasSeq, e.Tcp.Present = 0, 0
	})
	add(3, func(e *bpf.XentracePacketEvent) {
		ipv4(e, "10.0.0.1", "10.0.0.2", 0, 0, 250)
		e.Flow.HasSeq, e.Tcp.Present = 0, 0
	})
	for n := range 5 {
		add(17, func(e *bpf.XentracePacketEvent) {
			ipv4(e, "10.44.0.2", "10.44.0.1", 32888, 7021, 6)
			e.Header.Ifindex, e.Header.Cpu = 2, uint32(n%2)
			e.Tcp.SndUna, e.Tcp.SndNxt, e.Tcp.WriteSeq, e.Flow.Seq = 1000, 9704, 9704, 1000
			e.Tcp.Retransmits, e.Tcp.TotalRetrans, e.Tcp.Backoff = uint8(n), uint32(n), uint8(n)
			e.Flow.SeqLength = 8704
			e.Socket = bpf.XentraceSocketIdentity{Address: 0xffff888000001000, Cookie: 77, Inode: 4711, Cgroup: 1, Uid: 33, Hash: 99}
		})
	}
	for _, frags := range []int{0, 17} {
		record := elsewhereRecord(frags, nil)
		all = append(all, record)
	}
	return all
}

// decodeAll decodes records as Read does.
func decodeAll(t *testing.T, records [][]byte) []event.Packet {
	t.Helper()
	var all []event.Packet
	d := newDecoder()
	for _, record := range records {
		kind, err := d.kind(record)
		if err != nil {
			t.Fatal(err)
		}
		decode := d.decodePacket
		if kind == bpf.XentraceEventKindEVENT_ELSEWHERE {
			decode = d.decodeElsewhere
		}
		p, err := decode(record)
		if err != nil {
			t.Fatal(err)
		}
		p.Interface.Name = "eth0"
		all = append(all, p)
	}
	return all
}

// watch -o json of the same ring records is what it was before events, pipeline and JSON
// were restructured (testdata/watch.jsonl), key by key. The wording of layout and advice may
// change; whether they are there may not.
func TestSameRecordsSameJSON(t *testing.T) {
	recorded, err := os.ReadFile("testdata/watch.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	sink, table := output.NewJSON(&written), flow.NewTable(0, nil)
	for _, p := range decodeAll(t, syntheticRecords()) {
		changes := table.Add(&p)
		if err := sink.Emit(&p); err != nil {
			t.Fatal(err)
		}
		for i := range changes {
			if err := sink.Emit(&changes[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, now := jsonLines(t, recorded), jsonLines(t, written.Bytes())
	if len(before) != len(now) || len(before) != 28 {
		t.Fatalf("%d lines before, %d now, want 28", len(before), len(now))
	}
	for n := range before {
		for key, was := range before[n] {
			is, there := now[n][key]
			reworded := key == "layout" || key == "advice"
			if !there || reworded && (was == nil) != (is == nil) || !reworded && !reflect.DeepEqual(was, is) {
				t.Errorf("line %d, %s: %v before, %v now", n+1, key, was, is)
			}
		}
	}
}

func jsonLines(t *testing.T, text []byte) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range bytes.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal(line, &object); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, object)
	}
	return all
}
