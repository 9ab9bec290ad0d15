package trace

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/test/need"
)

// elsewhereRecord is the record of a drop elsewhere, cut off behind the packet's last
// fragment.
func elsewhereRecord(frags int, change func(*bpf.XentraceElsewhereHead)) []byte {
	var head bpf.XentraceElsewhereHead
	head.Header.Kind, head.Header.Ifindex, head.Header.Netns, head.Header.Cpu = bpf.XentraceEventKindEVENT_ELSEWHERE, 7, 4026532281, 5
	head.Location, head.Reason, head.NrFrames = 0xffffffff81000201, 64, 3
	copy(head.Frames[:], []uint64{0xffffffff81000101, 0xffffffff81000201, 0xffffffff81000301})
	if change != nil {
		change(&head)
	}
	event := tcpEvent(frags)
	event.Header.Ifindex, event.Header.Cpu, event.Cause = 0, 0, bpf.XentraceCauseCAUSE_NONE
	return slices.Concat(unsafe.Slice((*byte)(unsafe.Pointer(&head)), elsewhereHeader), raw(event, frags))
}

func TestDecodeElsewhere(t *testing.T) {
	for _, frags := range []int{0, 17, 45} {
		want := tcpPacket(frags)
		want.Layer, want.Cause, want.CPU, want.Interface = event.LayerElsewhere, event.CauseNone, 5, event.Device{Index: 7, NetNS: 4026532281}
		d := newDecoder()
		got, err := d.decodeElsewhere(elsewhereRecord(frags, nil))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if d.elsewhere.Reason != 64 || d.elsewhere.NrFrames != 3 || d.elsewhere.Location != 0xffffffff81000201 {
			t.Errorf("head %+v", d.elsewhere)
		}
	}
}

func TestDecodeTornElsewhere(t *testing.T) {
	whole := elsewhereRecord(2, nil)
	for _, length := range []int{interfaceRecord, elsewhereHeader - 1, elsewhereHeader, len(whole) - 1} {
		if _, err := newDecoder().decodeElsewhere(whole[:length]); err == nil {
			t.Errorf("no error for %d of %d bytes", length, len(whole))
		}
	}
	frames := elsewhereRecord(2, func(h *bpf.XentraceElsewhereHead) { h.NrFrames = 33 })
	if _, err := newDecoder().decodeElsewhere(frames); err == nil {
		t.Error("no error for 33 frames")
	}
}

// A stack begins with the function that dropped the packet.
func TestStackBeginsWithWhatDropped(t *testing.T) {
	for _, test := range []struct {
		name     string
		frames   []string
		location int // which frame it is, -1 for none
		want     int
	}{
		{"tracepoint, behind BPF's own frames", []string{"bpf_prog_1_elsewhere_free", "bpf_trace_run3", "sk_skb_reason_drop", "tcf_action"}, 3, 3},
		{"list", []string{"bpf_trace_run2", "kfree_skb", "kfree_skb_list", "__dev_queue_xmit"}, 2, 3},
		{"kprobe", []string{"kfree_skb_list_reason", "__dev_queue_xmit"}, -1, 1},
		{"freeing inlined", []string{"bpf_prog_1_elsewhere_free", "bpf_trace_run2", "nf_hook_slow", "ip_output"}, 2, 2},
		{"neither known", []string{"bpf_trace_run2", "nf_hook_slow"}, -1, 1},
		{"a free further out is another's", append(slices.Repeat([]string{"deep"}, 10), "kfree_skb"), 0, 0},
		{"empty", nil, -1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var frames []kernel.Frame
			var addresses []uint64
			for i, name := range test.frames {
				frames = append(frames, kernel.Frame{Function: name})
				addresses = append(addresses, 0xffffffff81000000+uint64(i))
			}
			var location uint64
			if test.location >= 0 {
				location = addresses[test.location]
			}
			if got := firstDropping(frames, addresses, location); got != test.want {
				t.Errorf("begins with frame %d, want %d", got, test.want)
			}
		})
	}
}

// The names of the running kernel, and what is remembered of them.
func TestStackOfThisKernel(t *testing.T) {
	need.Root(t, "to read the addresses of kernel functions")
	symbols, err := kernel.ReadSymbols(kernel.DropSymbols())
	if err != nil {
		t.Fatal(err)
	}
	completion, err := kernel.Completion(symbols)
	if err != nil {
		t.Fatal(err)
	}
	var s stacks
	for range 2 {
		if got := s.name([]uint64{completion + 5, completion + 9}, completion+9); !slices.Equal(got, []string{"net_tx_action+0x9"}) {
			t.Fatalf("stack %q, want net_tx_action+0x9", got)
		}
	}
	if len(s.named) != 2 {
		t.Errorf("%d addresses are remembered, want 2", len(s.named))
	}
	for i := range uint64(2 * maxNamedAddresses) {
		s.frame(completion + i)
	}
	if len(s.named) > maxNamedAddresses {
		t.Errorf("%d addresses are remembered, of at most %d", len(s.named), maxNamedAddresses)
	}
}

func TestReasonsByPlace(t *testing.T) {
	for index, want := range map[int]uint32{0: 0, 64: 64, 255: 255, 256: 1 << 16, 257: 1<<16 | 1, 287: 1<<16 | 31, 288: 2 << 16, 510: 8<<16 | 30} {
		if got := reasonAt(index); got != want {
			t.Errorf("index %d is reason %#x, want %#x", index, got, want)
		}
	}
	names, err := kernel.ReadDropReasons(kernel.NewTypes())
	if err != nil {
		t.Fatal(err)
	}
	if names == nil {
		if nameReasons(&[numReasons]uint64{3: 1}, nil) != nil {
			t.Error("reasons without names")
		}
		return
	}
	counted := [numReasons]uint64{numReasons - 1: 5}
	for number := range uint32(10) {
		if names.Name(number) == "NOT_SPECIFIED" {
			counted[number] = 3
		}
	}
	got := nameReasons(&counted, names)
	if want := map[string]uint64{"NOT_SPECIFIED": 3, "other": 5}; !maps.Equal(got, want) {
		t.Errorf("reasons %v, want %v", got, want)
	}
}

func TestCountsOfReasons(t *testing.T) {
	var a, b counts
	a.Elsewhere, b.Elsewhere = 5, 3
	a.reasons[2], b.reasons[2], a.reasons[511] = 4, 3, 1
	sum := a
	sum.add(&b)
	if difference := sum.minus(&a); sum.Elsewhere != 8 || sum.reasons[2] != 7 || difference.Elsewhere != 3 || difference.reasons != b.reasons {
		t.Errorf("sum %d, %d; difference %d", sum.Elsewhere, sum.reasons[2], difference.Elsewhere)
	}
}
