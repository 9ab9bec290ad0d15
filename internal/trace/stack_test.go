package trace

import (
	"strings"
	"testing"
	"unsafe"

	"xentrace/bpf"
	"xentrace/internal/kernel"
)

// framesOf returns frames of these functions, innermost first.
func framesOf(functions string) []kernel.Frame {
	var frames []kernel.Frame
	for _, f := range strings.Fields(functions) {
		frames = append(frames, kernel.Frame{Function: f})
	}
	return frames
}

func TestFromCall(t *testing.T) {
	for _, test := range []struct {
		name   string
		frames string
		want   bool
	}{
		{"a call", "xennet_start_xmit dev_hard_start_xmit tcp_sendmsg __x64_sys_sendto do_syscall_64 entry_SYSCALL_64_after_hwframe", true},
		{"a call of arm64", "dev_hard_start_xmit udp_sendmsg __arm64_sys_sendto invoke_syscall el0_svc", true},
		{"a worker of io_uring", "xennet_start_xmit tcp_sendmsg io_send io_wq_submit_work io_wq_worker ret_from_fork", true},
		{"a timer on top of a call", "xennet_start_xmit tcp_retransmit_timer run_timer_softirq __do_softirq irq_exit_rcu __x64_sys_read do_syscall_64", false},
		{"a timer on top of a call, from 6.9 on", "xennet_start_xmit tcp_retransmit_timer run_timer_softirq handle_softirqs irq_exit_rcu do_syscall_64", false},
		{"a softirq that a call lets in", "xennet_start_xmit tcp_v4_rcv net_rx_action handle_softirqs do_softirq __local_bh_enable_ip tcp_sendmsg do_syscall_64", false},
		{"busy polling", "xennet_start_xmit tcp_v4_rcv __napi_poll napi_busy_loop sock_poll __x64_sys_poll do_syscall_64", false},
		{"ksoftirqd", "xennet_start_xmit net_tx_action handle_softirqs run_ksoftirqd kthread ret_from_fork", false},
		{"a thread of the kernel", "xennet_start_xmit udp_sendmsg xs_udp_send_request kthread ret_from_fork", false},
		{"cut off", "xennet_start_xmit dev_hard_start_xmit tcp_sendmsg", false},
		{"nothing", "", false},
	} {
		if got := fromCall(framesOf(test.frames)); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}

// The tracer's own functions and those that only free are not shown.
func TestStackBeginsAtDriver(t *testing.T) {
	for _, test := range []struct{ frames, want string }{
		{"xennet_start_xmit dev_hard_start_xmit", "xennet_start_xmit"},
		{"bpf_trace_run2 __traceiter_net_dev_start_xmit dev_hard_start_xmit do_syscall_64", "dev_hard_start_xmit"},
		{"bpf_prog_1 bpf_trampoline_2 __dev_kfree_skb_any xennet_start_xmit dev_hard_start_xmit", "xennet_start_xmit"},
	} {
		frames := framesOf(test.frames)
		first := firstDropping(frames, make([]uint64, len(frames)), 1)
		if got := frames[first].Function; got != test.want {
			t.Errorf("%s begins with %s, want %s", test.frames, got, test.want)
		}
	}
}

func TestDecodeCall(t *testing.T) {
	event := tcpEvent(3)
	event.Stacked = 1
	whole := unsafe.Slice((*byte)(unsafe.Pointer(event)), stackedRecord)
	call := bpf.XentraceCallStack{Tgid: 77, NrKernel: 2, NrUser: 1}
	call.Kernel[0], call.Kernel[1], call.User[0] = 1<<63, 1<<63+1, 5
	stacked := append(append([]byte{}, whole...), unsafe.Slice((*byte)(unsafe.Pointer(&call)), int(unsafe.Sizeof(call)))...)

	d := newDecoder()
	p, err := d.decodePacket(stacked)
	if err != nil || len(p.Frags) != 3 || d.call != call {
		t.Errorf("%d fragments, call %+v, error %v", len(p.Frags), d.call, err)
	}
	if _, err := d.decodePacket(raw(tcpEvent(3), 3)); err != nil || d.call.NrKernel != 0 || d.call.NrUser != 0 {
		t.Errorf("a record without a stack: call %+v, error %v", d.call, err)
	}
	if _, err := d.decodePacket(stacked[:len(stacked)-1]); err == nil {
		t.Error("no error for a stack that is cut off")
	}
	for _, change := range []func(*bpf.XentraceCallStack){
		func(c *bpf.XentraceCallStack) { c.NrKernel = uint16(len(c.Kernel)) + 1 },
		func(c *bpf.XentraceCallStack) { c.NrUser = uint16(len(c.User)) + 1 },
	} {
		wrong := call
		change(&wrong)
		bad := append(append([]byte{}, whole...), unsafe.Slice((*byte)(unsafe.Pointer(&wrong)), int(unsafe.Sizeof(wrong)))...)
		if _, err := d.decodePacket(bad); err == nil {
			t.Errorf("no error for %d and %d frames", wrong.NrKernel, wrong.NrUser)
		}
	}
}
