package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// bpftraceDir has bpftrace and the shared libraries that it loads, if the host has it.
const bpftraceDir = "/lab/bpftrace"

// errNoHeaders is what bpftrace 0.17 ends with on 5.10.
var errNoHeaders = errors.New("bpftrace needs the kernel's headers there")

// countSlots counts the slots of each packet: one read for each fragment, for its length
// and offset together. Its argument is where skb_shared_info has the second word of its
// first fragment.
const countSlots = `
		$shared = (uint64)$skb->head + $skb->end;
		$slots = (((uint64)$skb->data & 4095) + $skb->len - $skb->data_len + 4095) / 4096;
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
`

// bpftraceScript does what xentrace hist does, at a hook: kprobe or tracepoint.
func bpftraceScript(hook string) (string, error) {
	frags, err := fragsOffset()
	if err != nil {
		return "", err
	}
	body := fmt.Sprintf(countSlots, frags+8)
	begin := "BEGIN { printf(\"ready\\n\"); }\n"
	if hook == "kprobe" {
		return begin + "kprobe:" + function + " { $skb = (struct sk_buff *)arg0; " + body + " }", nil
	}
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return "", err
	}
	return begin + fmt.Sprintf("tracepoint:net:net_dev_start_xmit { $skb = (struct sk_buff *)args->skbaddr; if ($skb->dev->ifindex == %d) {%s} }",
		eth0.Index, body), nil
}

func fragsOffset() (int, error) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return 0, err
	}
	var shared *btf.Struct
	if err := types.TypeByName("skb_shared_info", &shared); err != nil {
		return 0, err
	}
	for _, member := range shared.Members {
		if member.Name == "frags" {
			return int(member.Offset.Bytes()), nil
		}
	}
	return 0, fmt.Errorf("skb_shared_info has no frags")
}

// startBpftrace returns when the script's hook is attached.
func startBpftrace(ctx context.Context, hook string) (*command, error) {
	script, err := bpftraceScript(hook)
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	output, err := os.Create(outputFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	began, err := clock(unix.CLOCK_MONOTONIC)
	if err != nil {
		return nil, err
	}
	argv := []string{bpftraceDir + "/bpftrace", "-B", "none", "-e", script}
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Files: []*os.File{nil, writer, output},
		Env:   append(os.Environ(), "LD_LIBRARY_PATH="+bpftraceDir, "BPFTRACE_NO_RLIMIT=1"),
	})
	if err != nil {
		return nil, err
	}
	_ = writer.Close()
	c := &command{process: process, again: 5 * time.Second}
	// Printed by BEGIN, and written out once every probe is attached.
	if err := awaitLine(reader, "ready"); err != nil {
		text, _ := os.ReadFile(outputFile)
		if bytes.Contains(text, []byte("'linux/types.h' file not found")) {
			return nil, errNoHeaders
		}
		return nil, fmt.Errorf("bpftrace: not attached: %w: %s", err, text)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	return c, c.measureStart(began)
}

func awaitLine(r *os.File, line string) error {
	if err := r.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
		return err
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if lines.Text() == line {
			return r.SetReadDeadline(time.Time{})
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
