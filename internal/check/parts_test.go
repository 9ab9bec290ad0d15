package check

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/test/memory"
)

func TestCrossing(t *testing.T) {
	const tail = 320 // of 17 fragments
	for _, test := range []struct{ bytes, objects, tail, want int }{
		{576, 14, tail, 1}, {640, 12, tail, 1}, {640, 25, tail, 2}, {704, 23, tail, 1}, {704, 11, tail, 0}, {640, 6, tail, 0}, {512, 16, tail, 0}, {4096, 4, tail, 0}, {0, 0, tail, 0},
		{704, 23, 0, 3}, {704, 11, 0, 1}, // where the end of the head is not known
	} {
		if got := (Slab{test.bytes, test.objects, test.tail}).Crossing(); got != test.want {
			t.Errorf("%d bytes, %d in a slab: %d cross a page, want %d", test.bytes, test.objects, got, test.want)
		}
	}
}

// A store answers what it is asked in Xen's wire format.
type store struct {
	values map[string]string
	answer bytes.Buffer
}

func (s *store) Read(b []byte) (int, error) { return s.answer.Read(b) }

func (s *store) Write(request []byte) (int, error) {
	path := strings.TrimRight(string(request[16:]), "\x00")
	kind, content := uint32(2), s.values[path]
	if content == "" {
		kind, content = 16, "ENOENT\x00"
	}
	if content == "denied" {
		kind, content = 16, "EACCES\x00"
	}
	for _, field := range []uint32{kind, 0, 0, uint32(len(content))} {
		_ = binary.Write(&s.answer, binary.NativeEndian, field)
	}
	s.answer.WriteString(content)
	return len(request), nil
}

func TestXenstore(t *testing.T) {
	s := &store{values: map[string]string{"device/vif/0/trusted": "0", "device/vif/1": "denied"}}
	if value, there, err := askXenstore(s, "device/vif/0/trusted"); value != "0" || !there || err != nil {
		t.Errorf("%q, %v, error %v", value, there, err)
	}
	if _, there, err := askXenstore(s, "device/vif/9"); there || err != nil {
		t.Errorf("a path that is not there: %v, error %v", there, err)
	}
	if _, _, err := askXenstore(s, "device/vif/1"); err == nil || err.Error() != "EACCES" {
		t.Errorf("a path that is denied: error %v", err)
	}
	wild := struct {
		io.Reader
		io.Writer
	}{strings.NewReader(strings.Repeat("\xff", 16)), io.Discard}
	if _, _, err := askXenstore(wild, "x"); err == nil || !strings.Contains(err.Error(), "4294967295 bytes") {
		t.Errorf("a wild answer: error %v", err)
	}
}

func TestObserved(t *testing.T) {
	observe := func(off bool, change func(*Observation)) event.Finding {
		g := newGuest()
		if off {
			g.turnOff("sg")
		}
		o := &Observation{Duration: 5 * time.Second}
		o.Totals.Packets, o.Totals.Slots[1], o.Totals.Slots[2] = 1000, 700, 300
		change(o)
		m := g.read(t)
		m.Interfaces[0].Observed = o
		return m.scatterGather(&m.Interfaces[0])
	}
	for name, test := range map[string]struct {
		f      event.Finding
		status event.Status
		want   string
	}{
		"on":      {observe(false, func(o *Observation) { o.Totals.Bounced = 2 }), event.OK, "700 of 1000 packets certainly did not straddle (1 slot); 2 were bounced because of where their head starts"},
		"off":     {observe(true, func(o *Observation) { o.Totals.Causes[event.SGOff] = 43 }), event.Fail, "In 5.0 s, 43 of 1000 packets straddled a page boundary and were dropped."},
		"nothing": {observe(false, func(o *Observation) { o.Missing = "cannot run here: missing privilege" }), event.OK, "Not observed: cannot run here"},
	} {
		if test.f.Status != test.status || !strings.Contains(test.f.Message, test.want) {
			t.Errorf("%s: %s %q, want %s %q", name, test.f.Status, test.f.Message, test.status, test.want)
		}
	}
}

// TestThisMachine reads the machine that it runs on: whatever it is, there are
// sentences.
func TestThisMachine(t *testing.T) {
	source, err := Running()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Read(t.Context(), source, []string{"lo"})
	if err != nil {
		t.Fatal(err)
	}
	findings := Judge(m)
	checkManners(t, findings)
	if len(find(findings, Virtualization)) != 1 || len(find(findings, DriverOf)) != 1 {
		t.Errorf("%+v", findings)
	}
	if info, err := source.SharedInfo(); err != nil || info.MaxFrags < 17 || info.MaxFrags > 45 || info.Bytes < 320 || info.Bytes%64 != 0 {
		t.Errorf("%+v, error %v; want 17 to 45 fragments in 320 bytes or more", info, err)
	}
}

func TestAdviceThatIsTakenOver(t *testing.T) {
	for mtu, want := range map[int]bool{1500: false, 9001: true} {
		m := &Machine{Code: Code{Live: known(drops)}, Interfaces: []Interface{guestNetfront("eth0", mtu)}}
		f := m.linearize()
		if got := strings.Contains(everything(&f), "mtu 1500"); got != want {
			t.Errorf("MTU %d: the MTU of 1500 is advised: %v, want %v", mtu, got, want)
		}
	}
}

// conversation answers whatever is asked with the same bytes.
type conversation struct{ io.Reader }

func (conversation) Write(b []byte) (int, error) { return len(b), nil }

func FuzzXenstore(f *testing.F) {
	answer := func(kind, length uint32, text string) []byte {
		b := binary.NativeEndian.AppendUint32(nil, kind)
		b = binary.NativeEndian.AppendUint64(b, 0)
		return append(binary.NativeEndian.AppendUint32(b, length), text...)
	}
	f.Add(answer(xenstoreRead, 2, "0\x00"))
	f.Add(answer(xenstoreError, 7, "ENOENT\x00"))
	f.Add(answer(xenstoreRead, 1<<32-1, "x"))
	f.Add(answer(xenstoreRead, xenstoreMostBytes, strings.Repeat("\x00", xenstoreMostBytes)))
	f.Add(answer(77, 0, ""))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		memory.Within(t, 64<<10, func() {
			value, there, err := askXenstore(conversation{strings.NewReader(string(bytes))}, "x")
			if len(value) > xenstoreMostBytes || value != "" && !there || there && err != nil {
				t.Errorf("%q, %v, error %v", value, there, err)
			}
		})
	})
}

// A file of facts may be of any size.
func TestFactsAreReadUpToALimit(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(directory+"/large", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(directory+"/large", 1<<32); err != nil {
		t.Fatal(err)
	}
	r := &reader{Source{Files: os.DirFS(directory)}}
	memory.Within(t, 8*maxFactBytes, func() {
		if got := r.content("large"); !strings.Contains(got.Missing, "over 32 MiB") {
			t.Errorf("%d bytes, missing %q", len(got.Value), got.Missing)
		}
	})
}
