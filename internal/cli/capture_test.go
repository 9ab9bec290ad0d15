package cli

import (
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"xentrace/internal/filter"
	"xentrace/test/tool"
)

// captured is what a capture file holds: the interfaces' names, and each packet's length.
func captured(t *testing.T, file string) (names []string, lengths []int) {
	t.Helper()
	r, err := pcapgo.NewNgReader(strings.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		lengths = append(lengths, info.Length)
	}
	for i := range r.NInterfaces() {
		on, err := r.Interface(i)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, on.Name+" "+on.Description)
	}
	return names, lengths
}

func TestWatchWritesACapture(t *testing.T) {
	fake := newFake()
	got := runWith(t, fake, "watch", "-o", "pcapng", "--count", "3")
	names, lengths := captured(t, got.stdout)
	if got.status != 0 || len(lengths) != 3 || lengths[0] != 1426 || len(names) != 1 || names[0] != "eth0 netns 4026531840, driver xen-netfront" {
		t.Errorf("status %d, interfaces %q, packets of %v bytes: %s", got.status, names, lengths, got.stderr)
	}
	if fake.options.Snap != captureSnap {
		t.Errorf("%d bytes of each packet are read, want %d", fake.options.Snap, captureSnap)
	}
}

// Bytes are not written to a terminal, and nothing is attached for it.
func TestNoCaptureOnATerminal(t *testing.T) {
	terminal := tool.OpenTerminal(t, 100, 30)
	fake := newFake()
	err := Run(t.Context(), []string{"watch", "-o", "pcapng"}, System{
		Stdout: terminal.Slave, Stderr: io.Discard, Getenv: func(string) string { return "" }, Start: fake.start,
	})
	if Status(err) != 2 || !strings.Contains(err.Error(), "stdout is a terminal; redirect it to a file, or pipe it to tshark -r -") || !fake.began.IsZero() {
		t.Errorf("%v, attached %t", err, !fake.began.IsZero())
	}
}

func TestExpressionOfWatch(t *testing.T) {
	t.Parallel()
	fake := newFake()
	fake.records = 14 // two of seven are not TCP over IPv4
	got := runWith(t, fake, strings.Fields("watch -d 300ms ip and tcp port 5001 and src net 10.0.0.0/8")...)
	if n := strings.Count(got.stdout, " dropped too_many_slots "); got.status != 0 || n != 10 {
		t.Errorf("status %d, %d packets, want 10:\n%s%s", got.status, n, got.stdout, got.stderr)
	}
	if want := "filter 'ip and tcp port 5001 and src net 10.0.0.0/8': 4 events left out; counts are of all packets"; !strings.Contains(got.stdout, want) {
		t.Errorf("no %q in\n%s", want, got.stdout)
	}
	if fake.options.Snap != expressionSnap {
		t.Errorf("%d bytes of each packet are read, want %d", fake.options.Snap, expressionSnap)
	}
	fake = newFake()
	if got := runWith(t, fake, "watch", "--count", "1", "", " "); got.status != 0 || fake.options.Snap != 0 {
		t.Errorf("an empty expression: status %d, %d bytes of each packet: %s", got.status, fake.options.Snap, got.stderr)
	}
}

// An expression in one argument is that in several.
func TestExpressionInOneArgument(t *testing.T) {
	for _, args := range [][]string{{"tcp[13] & 2 != 0 or (udp and port 53)"}, {"tcp[13] & 2 != 0", "or", "(udp and port 53)"}} {
		var f filter.Filter
		if err := compileExpression(&f, args); err != nil || f.Expression.String() != "tcp[13] & 2 != 0 or (udp and port 53)" {
			t.Errorf("%q: %v, %v", args, f.Expression, err)
		}
	}
}

// packetBlocks are the enhanced packet blocks of a capture file.
func packetBlocks(file string) (blocks []string) {
	for len(file) > 0 {
		length := binary.LittleEndian.Uint32([]byte(file[4:8]))
		if binary.LittleEndian.Uint32([]byte(file)) == 6 {
			blocks = append(blocks, file[:length])
		}
		file = file[length:]
	}
	return blocks
}

// A capture of a replay has the packets of the live one, byte for byte; an expression
// selects the same of them.
func TestReplayWritesTheSameCapture(t *testing.T) {
	t.Parallel()
	recording := filepath.Join(t.TempDir(), "x.jsonl")
	fake := newFake()
	fake.records, fake.owned = 14, true
	live := runWith(t, fake, "watch", "-o", "pcapng", "-d", "300ms", "-w", recording)
	replayed := runWith(t, nil, "replay", "-o", "pcapng", recording)
	want := packetBlocks(live.stdout)
	if got := packetBlocks(replayed.stdout); len(want) != 14 || !slices.Equal(got, want) {
		t.Errorf("live: status %d, %d packets: %s; replay: status %d, %d packets, equal %t: %s",
			live.status, len(want), live.stderr, replayed.status, len(got), slices.Equal(got, want), replayed.stderr)
	}
	names, _ := captured(t, replayed.stdout)
	if !slices.Equal(names, []string{"eth0 netns 4026531840, driver xen-netfront"}) {
		t.Errorf("interfaces %q", names)
	}
	some := runWith(t, nil, "replay", "-o", "pcapng", recording, "ip", "and", "tcp port 5001")
	if got := packetBlocks(some.stdout); some.status != 0 || len(got) != 10 {
		t.Errorf("status %d, %d packets pass the expression, want 10: %s", some.status, len(got), some.stderr)
	}
	text := runWith(t, nil, "replay", recording, "udp")
	if n := strings.Count(text.stdout, " dropped too_many_slots "); text.status != 0 || n != 2 || !strings.Contains(text.stdout, "filter 'udp': ") {
		t.Errorf("status %d, %d packets, want 2:\n%s%s", text.status, n, text.stdout, text.stderr)
	}
	quoted := runWith(t, nil, "replay", "-o", "pcapng", recording, "src net 10.0.0.0/8 and tcp")
	if got := packetBlocks(quoted.stdout); quoted.status != 0 || len(got) != 10 {
		t.Errorf("status %d, %d packets pass the expression in one argument, want 10: %s", quoted.status, len(got), quoted.stderr)
	}
	for argument, want := range map[string]string{"y.jsonl": "y.jsonl: no such file", "eth0": `filter expression: "eth0" at column 1: unknown word`} {
		if odd := runWith(t, nil, "replay", recording, argument); odd.status != 2 || !strings.Contains(odd.stderr, want) {
			t.Errorf("%s: status %d: %s", argument, odd.status, odd.stderr)
		}
	}
}
