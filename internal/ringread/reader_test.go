package ringread

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"xentrace/test/need"
)

// recordSizes are those that a test's programs write, in bytes.
var recordSizes = []int{8, 61, 1000, 2803}

// A source is a ring buffer with programs that add records of those sizes. Each begins with a
// number, and is that number's lowest byte otherwise.
type source struct {
	t       *testing.T
	ring    *ebpf.Map
	record  *ebpf.Map
	output  []*ebpf.Program
	discard *ebpf.Program
	written uint64
}

func newSource(t *testing.T, size uint32) *source {
	t.Helper()
	need.Root(t, "to load BPF programs")
	s := &source{t: t, ring: newMap(t, ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: size})}
	s.record = newMap(t, ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 2808, MaxEntries: 1})
	for _, bytes := range recordSizes {
		s.output = append(s.output, newProgram(t, asm.Instructions{
			asm.LoadMapPtr(asm.R1, s.ring.FD()),
			asm.LoadMapValue(asm.R2, s.record.FD(), 0),
			asm.Mov.Imm(asm.R3, int32(bytes)),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnRingbufOutput.Call(),
			asm.Return(),
		}))
	}
	s.discard = newProgram(t, asm.Instructions{
		asm.LoadMapPtr(asm.R1, s.ring.FD()),
		asm.Mov.Imm(asm.R2, 100),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "full"),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRingbufDiscard.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("full"),
		asm.Return(),
	})
	return s
}

func newMap(t *testing.T, spec ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func newProgram(t *testing.T, instructions asm.Instructions) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: instructions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func run(t *testing.T, p *ebpf.Program) {
	t.Helper()
	if status, err := p.Run(&ebpf.RunOptions{Context: [1]uint64{}}); err != nil || status != 0 {
		t.Fatalf("status %d, %v: the ring buffer is full", int32(status), err)
	}
}

// content is a record by its number.
func content(number uint64, size int) []byte {
	record := bytes.Repeat([]byte{byte(number)}, size)
	binary.NativeEndian.PutUint64(record, number)
	return record
}

// write adds a record, of each size in turn.
func (s *source) write() {
	s.t.Helper()
	if err := s.record.Put(uint32(0), content(s.written, int(s.record.ValueSize()))); err != nil {
		s.t.Fatal(err)
	}
	run(s.t, s.output[s.written%uint64(len(s.output))])
	s.written++
}

func (s *source) reader() *Reader {
	s.t.Helper()
	r, err := New(s.ring)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = r.Close() })
	r.SetDeadline(time.Now())
	return r
}

// Every record comes back as it was written, wherever in the ring buffer it lies.
func TestReadInto(t *testing.T) {
	for _, test := range []struct {
		name    string
		size    uint32
		records int
	}{
		{"one page, many times around", 4096, 500},
		{"larger than what is mapped", 4 * viewBytes, 2500},
	} {
		t.Run(test.name, func(t *testing.T) {
			size := max(test.size, uint32(os.Getpagesize()))
			s := newSource(t, size)
			r := s.reader()
			var buffer []byte
			for number := range uint64(test.records) {
				if number%3 == 0 {
					run(t, s.discard)
				}
				s.write()
				if err := r.ReadInto(&buffer); err != nil {
					t.Fatalf("record %d: %v", number, err)
				}
				if want := content(number, recordSizes[number%uint64(len(recordSizes))]); !bytes.Equal(buffer, want) {
					t.Fatalf("record %d: %d bytes %.16x, want %d bytes %.16x", number, len(buffer), buffer, len(want), want)
				}
				if left := r.Available(); left != 0 {
					t.Fatalf("record %d: %d bytes are left", number, left)
				}
			}
		})
	}
}

// A ring buffer of several MiB takes little resident memory, however much is read.
func TestMapsLittle(t *testing.T) {
	s := newSource(t, 4<<20)
	r := s.reader()
	var buffer []byte
	for range 300 {
		s.write()
		if err := r.ReadInto(&buffer); err != nil {
			t.Fatal(err)
		}
	}
	want := viewBytes + 2*os.Getpagesize()
	if got := mappedOfMaps(t); got != want {
		t.Errorf("%d bytes of BPF maps are mapped, want %d", got, want)
	}
}

// mappedOfMaps returns how much of BPF maps is in the resident memory of this process, in bytes.
func mappedOfMaps(t *testing.T) (sum int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for line := range strings.Lines(string(text)) {
		switch fields := strings.Fields(line); {
		case !strings.HasSuffix(fields[0], ":"):
			ours = strings.Contains(line, "bpf-map")
		case ours && fields[0] == "Rss:":
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			sum += kib << 10
		}
	}
	return sum
}

// The records that are there come first, whatever ends the wait.
func TestReadIntoEnds(t *testing.T) {
	s := newSource(t, 1<<16)
	r := s.reader()
	var buffer []byte
	expect := func(name string, want error) {
		t.Helper()
		if err := r.ReadInto(&buffer); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	s.write()
	expect("record before the deadline's end", nil)
	expect("deadline that is over", os.ErrDeadlineExceeded)
	r.SetDeadline(time.Time{})
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	s.write()
	s.write()
	expect("record before the flush's end", nil)
	expect("second record", nil)
	expect("flush", ErrFlushed)
	s.write()
	if got := r.Available(); got != 2816 {
		t.Errorf("%d bytes available, want 2816: a record of 2803", got)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	expect("close", os.ErrClosed)
	if err := r.Flush(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("flush after close: %v", err)
	}
}

// A reader that waits is woken by a record, by Flush and by Close.
func TestReadIntoWaits(t *testing.T) {
	s := newSource(t, 1<<16)
	r := s.reader()
	r.SetDeadline(time.Time{})
	for _, test := range []struct {
		name string
		wake func() error
		want error
	}{
		{"record", func() error { s.write(); return nil }, nil},
		{"flush", r.Flush, ErrFlushed},
		{"close", r.Close, os.ErrClosed},
	} {
		result := make(chan error)
		go func() {
			var buffer []byte
			result <- r.ReadInto(&buffer)
		}()
		if err := test.wake(); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if err := <-result; !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// What the kernel cannot map is refused, and nothing is left open.
func TestNewRefuses(t *testing.T) {
	need.Root(t, "to create BPF maps")
	if _, err := New(newMap(t, ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})); err == nil {
		t.Error("no error for a map that is no ring buffer")
	}
}

// A deadline is rounded up to whole ms: rounded down, the last of them would be polled for in
// vain, again and again.
func TestUntil(t *testing.T) {
	if got := until(time.Time{}); got != -1 {
		t.Errorf("without a deadline: %d, want -1", got)
	}
	if got := until(time.Now().Add(-time.Second)); got != 0 {
		t.Errorf("over: %d, want 0", got)
	}
	if got, want := until(time.Now().Add(300*time.Hour)), 300*3600*1000; got > want || got < want-3600*1000 {
		t.Errorf("in 300 hours: %d ms, want at most %d", got, want)
	}
	if got := until(time.Now().Add(1 << 62)); got != 1<<31-1 {
		t.Errorf("in 146 years: %d ms, want %d", got, 1<<31-1)
	}
}
