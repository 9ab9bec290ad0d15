package netns

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/trace"
)

// readAll stops the tracer and returns the packets of all records.
func readAll(t *testing.T, tracer *trace.Tracer) []event.Packet {
	t.Helper()
	var all []event.Packet
	must(t, tracer.Stop(t.Context()))
	for {
		p, err := tracer.Read(t.Context())
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		all = append(all, p)
	}
}

// suppressed counts the records that a tracer did not make because of its limit.
func suppressed(t *testing.T, tracer *trace.Tracer) (records uint64) {
	t.Helper()
	totals, err := tracer.Totals(t.Context())
	must(t, err)
	for _, kind := range totals.Suppressed {
		records += kind.Records
	}
	return records
}

// A storm with a limit of records: no second has more, every packet is counted, and every
// record was made or is counted as suppressed. Records hold the packets' first bytes.
func TestRecordsOfAStorm(t *testing.T) {
	const rate, snap = 300, 60
	const slack = 200 * time.Millisecond // a record's time is taken after it was allowed
	s := newStorm(t)
	tracer, err := trace.Start(t.Context(), trace.Options{Interfaces: []string{"near"}, Records: true, Rate: rate, Snap: snap})
	must(t, err)
	defer func() { must(t, tracer.Close()) }()
	for began := time.Now(); time.Since(began) < 2*time.Second || s.sent < int(suppressed(t, tracer))+rate/2; {
		s.blow(s.sent + 1) // a busy machine raises the limit late
	}
	packets := readAll(t, tracer)
	totals, err := tracer.Totals(t.Context())
	must(t, err)
	left := suppressed(t, tracer)
	for _, kind := range totals.Suppressed {
		if kind.Verdict != event.OverLimit || kind.Cause != event.CauseNone {
			t.Errorf("suppressed %+v, want packets over the limit", kind)
		}
	}
	i, sent := &totals.Interfaces[0], uint64(s.sent)
	if i.Packets != sent || i.OverLimit != sent || uint64(len(packets))+left != sent || totals.Lost.Ring != 0 {
		t.Errorf("%d packets, %d over the limit, %d records, %d suppressed, %d lost: sent %d", i.Packets, i.OverLimit, len(packets), left, totals.Lost.Ring, sent)
	}
	if len(packets) < rate/2 {
		t.Errorf("%d records, want at least half of what one second has", len(packets))
	}
	for n := range packets {
		p := &packets[n]
		if n >= rate && p.Time.Sub(packets[n-rate].Time) < time.Second-slack {
			t.Fatalf("records %d and %d are %v apart", n-rate, n, p.Time.Sub(packets[n-rate].Time))
		}
		if len(p.Header) != min(snap, p.HeadLen) || p.EtherType != 0x0800 || binary.BigEndian.Uint16(p.Header[12:]) != 0x0800 ||
			[4]byte(p.Header[30:34]) != p.Flow.Destination.Addr().As4() || binary.BigEndian.Uint16(p.Header[36:]) != p.Flow.Destination.Port() {
			t.Fatalf("header % x of a head of %d bytes, flow %+v", p.Header, p.HeadLen, p.Flow)
		}
	}
	t.Logf("%d sent, %d records", sent, len(packets))
}
