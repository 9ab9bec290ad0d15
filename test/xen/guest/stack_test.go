//go:build xenlab

package guest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// With --stack the record of a packet that went wrong has the call that sent it, on
// every backend; one that a timer sent has none. Where it is not known who sends (5.10), and
// each packet goes through the interface's queue, there is none at all.
func TestStack(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			run := tool.Start(t, program(t), "watch", "-o", "json", "--stack", "--backend", backend)
			sender, err := rocket.NewTCP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), 7021), rocket.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sender.Abort() }()
			sent, err := sender.Send(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second) // for retransmissions
			output := run.Stop()
			calls := 0
			for i := range output.Packets {
				p := &output.Packets[i]
				if p.Flow == nil || p.Flow.Sport != int(sent.Local.Port()) {
					continue
				}
				if p.TCP == nil || p.TCP.Retransmits > 0 {
					if len(p.Stack) != 0 {
						t.Errorf("a retransmission has a stack: %s", p)
					}
					continue
				}
				calls += checkCall(t, backend, p.Stack)
			}
			want := 1
			if !tellsSenders(t) {
				want = 0
			}
			if calls != want {
				t.Errorf("%d records with the call, want %d among %d", calls, want, len(output.Packets))
			}
		})
	}
}

// checkCall returns 1 for the stack of the call that sends a segment.
func checkCall(t *testing.T, backend string, stack []string) int {
	t.Helper()
	if len(stack) == 0 {
		return 0 // the timer may be the first to try again
	}
	place := func(text string) int {
		return slices.IndexFunc(stack, func(f string) bool { return strings.Contains(f, text) })
	}
	// The tracepoint is in the caller; an fentry program's trampoline is jumped to on 7.x,
	// so that the function itself is not on the stack.
	first, caller := "xennet_start_xmit+", "dev_hard_start_xmit+"
	if backend == "tracepoint" || backend == "fentry" && strings.HasPrefix(stack[0], caller) {
		first = caller
	}
	write, entry, user := place("tcp_write_xmit+"), place("do_syscall_64+"), place("guest.test")
	if !strings.HasPrefix(stack[0], first) || write < 1 || entry < write || user <= entry {
		t.Errorf("stack:\n%s", strings.Join(stack, "\n"))
	}
	t.Logf("%d frames:\n%s", len(stack), strings.Join(stack, "\n"))
	return 1
}
