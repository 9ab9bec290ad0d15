package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"xentrace/test/need"
	"xentrace/test/tool"
)

// An observer is what looks at the packets meanwhile.
type observer struct {
	name string
	// program and kind tell its BPF program at the entry of the driver: what the name
	// begins with, and the type where that is not enough.
	program string
	kind    ebpf.ProgramType
	attach  func() (detach func())
}

const (
	nothing     = "nothing"
	emptyRaw    = "empty program"
	histogram   = "xentrace hist"
	watching    = "xentrace watch"
	bpftraceJob = "bpftrace"
)

// observers returns all of them, in the order in which they take turns.
func observers(tb testing.TB, l *lab) []observer {
	return []observer{
		{name: nothing, attach: func() func() { return func() {} }},
		{name: emptyRaw, program: "empty", attach: func() func() { return attachEmpty(tb) }},
		{name: histogram, program: "tracepoint_begi", attach: func() func() { return attachXentrace(tb, "hist", "-d", "0") }},
		{name: watching, program: "tracepoint_begi", attach: func() func() { return attachXentrace(tb, "watch") }},
		{name: bpftraceJob, kind: ebpf.TracePoint, attach: func() func() {
			detach := attachBpftrace(tb, l.ifindex)
			return func() { detach() }
		}},
	}
}

// attachEmpty attaches a program that does nothing to the hook that xentrace's
// tracepoint backend uses for other drivers than xen-netfront.
func attachEmpty(tb testing.TB) (detach func()) {
	tb.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "empty", Type: ebpf.RawTracepoint, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	must(tb, err)
	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "net_dev_start_xmit", Program: program})
	must(tb, err)
	return func() {
		must(tb, attached.Close())
		must(tb, program.Close())
	}
}

func attachXentrace(tb testing.TB, command ...string) (detach func()) {
	tb.Helper()
	arguments := append([]string{xentrace}, command...)
	run := tool.Start(tb, append(arguments, "-i", "near", "--backend", "tracepoint", "-o", "json")...)
	return func() { run.Stop() }
}

// script counts the slots of each packet of one interface, in the quickest way
// found to write it: one read for each fragment, for its length and offset together,
// while a comparison of the interface's name would cost more than all the rest. It
// does not look at the namespace. The arguments are the interface and where
// skb_shared_info has the second word of its first fragment.
const script = `
BEGIN { printf("ready\n"); }
tracepoint:net:net_dev_start_xmit
{
	$skb = (struct sk_buff *)args->skbaddr;
	if ($skb->dev->ifindex == %d) {
		$shared = (uint64)$skb->head + $skb->end;
		$slots = (((uint64)$skb->data & 4095) + args->len - args->data_len + 4095) / 4096;
		$n = (uint64)((struct skb_shared_info *)$shared)->nr_frags;
		$frag = $shared + %d;
		$i = (uint64)0;
		while ($i < 45) {
			if ($i >= $n) { break; }
			$word = *(uint64 *)$frag;
			$slots += ((($word >> 32) & 4095) + ($word & 0xffffffff) + 4095) / 4096;
			$frag += 16;
			$i++;
		}
		@slots[$slots] = count();
	}
}
`

// bpftrace 0.17 knows no raw tracepoints on kernels such as 6.18, so its script
// is on the classic one, which needs tracefs: mounted for it alone.
const startBpftrace = `[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
exec env BPFTRACE_NO_RLIMIT=1 bpftrace -B none -e "$1"`

// attachBpftrace starts the script; detach returns what it has printed.
func attachBpftrace(tb testing.TB, ifindex int) (detach func() string) {
	tb.Helper()
	return attachScript(tb, fmt.Sprintf(script, ifindex, fragsOffset(tb)+8), "@slots[")
}

// attachScript starts a script that prints ready when it begins, and at its end something
// with counted in it.
func attachScript(tb testing.TB, text, counted string) (detach func() string) {
	tb.Helper()
	need.Tool(tb, "bpftrace")
	cmd := exec.Command("sh", "-c", startBpftrace, "sh", text)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	var errors strings.Builder
	cmd.Stderr = &errors
	stdout, err := cmd.StdoutPipe()
	must(tb, err)
	must(tb, cmd.Start())
	// Printed by BEGIN, and written out once every probe is attached.
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return func() string { return stopBpftrace(tb, cmd, stdout, counted) }
		}
	}
	_ = cmd.Wait()
	tb.Fatalf("bpftrace: not attached: %s", errors.String())
	return nil
}

func stopBpftrace(tb testing.TB, cmd *exec.Cmd, stdout io.Reader, counted string) string {
	tb.Helper()
	type result struct {
		output []byte
		err    error
	}
	read := make(chan result, 1)
	go func() {
		output, err := io.ReadAll(stdout)
		read <- result{output, err}
	}()
	var r result
	for ended := false; !ended; {
		// bpftrace 0.17 overlooks an interrupt that comes while it is not waiting for
		// events, and dies of one that comes while it prints.
		must(tb, cmd.Process.Signal(os.Interrupt))
		select {
		case r = <-read:
			ended = true
		case <-time.After(5 * time.Second):
		}
	}
	must(tb, r.err)
	must(tb, cmd.Wait())
	if !strings.Contains(string(r.output), counted) {
		tb.Fatalf("bpftrace: counted nothing: %q", r.output)
	}
	return string(r.output)
}

// fragsOffset returns where the running kernel has skb_shared_info.frags.
func fragsOffset(tb testing.TB) int {
	tb.Helper()
	types, err := btf.LoadKernelSpec()
	must(tb, err)
	var shared *btf.Struct
	must(tb, types.TypeByName("skb_shared_info", &shared))
	for _, member := range shared.Members {
		if member.Name == "frags" {
			return int(member.Offset.Bytes())
		}
	}
	tb.Fatal("skb_shared_info has no frags")
	return 0
}
