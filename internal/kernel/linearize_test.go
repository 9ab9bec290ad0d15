package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// Where the functions of the fake kernels lie.
const (
	pullTail    = 0xffffffff81001000
	ratelimit   = 0xffffffff81002000
	freeAny     = 0xffffffff81003000
	returnThunk = 0xffffffff81004000
	raxThunk    = 0xffffffff81005000
	stackCheck  = 0xffffffff81006000
	trampoline  = 0xffffffffa0000000 // without a symbol
	transmit    = 0xffffffffc0100000
	afterwards  = 0xffffffffc0100200
	coldPart    = 0xffffffffc0101000
	coldAfter   = 0xffffffffc0101100
	helper      = 0xffffffffc0102000
	helperAfter = 0xffffffffc0102100
)

// networkCore is what every fake kernel has besides the driver.
func networkCore() fakeKernel {
	return fakeKernel{
		function("__pskb_pull_tail", "", pullTail).endbr().nop5().push().ret(),
		function("net_ratelimit", "", ratelimit).nop5().push().ret(),
		function("__dev_kfree_skb_any", "", freeAny).nop5().push().ret(),
		function("__x86_return_thunk", "", returnThunk).bytes(0xc3),
		function("__x86_indirect_thunk_rax", "", raxThunk).bytes(0xff, 0xe0), // jmp *%rax
		function("after_thunk", "", raxThunk+0x40).bytes(0xc3),
		function("netif_exit", driverModule, afterwards).bytes(0xc3),
		function("cleanup.cold", driverModule, coldAfter).bytes(0xc3),
		function("after_helper", driverModule, helperAfter).bytes(0xc3),
	}
}

func transmitAt() *listing { return function("xennet_start_xmit", driverModule, transmit) }
func coldAt() *listing     { return function("xennet_start_xmit.cold", driverModule, coldPart) }

func TestDriverLinearizes(t *testing.T) {
	for _, test := range []struct {
		name     string
		driver   fakeKernel
		value    Linearization
		evidence string // a part of it
	}{
		{"a call on the straight path",
			fakeKernel{transmitAt().nop5().push().call(pullTail).ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"a call behind a conditional jump",
			fakeKernel{transmitAt().nop5().push().cmp18().ja(transmit + 0x40).ret().to(0x40).call(pullTail).jmp(transmit + 5)},
			Linearizes, "xennet_start_xmit+0x40 calls __pskb_pull_tail"},
		{"a short conditional jump back",
			fakeKernel{transmitAt().nop5().push().bytes(0xeb, 0x07).call(pullTail).ret().bytes(0x77, 0xf7).ret()}, // jmp +7; ja -9
			Linearizes, "xennet_start_xmit+0x8 calls __pskb_pull_tail"},
		{"a call in the cold part",
			fakeKernel{
				transmitAt().endbr().nop5().push().cmp18().ja(coldPart + 0x10).ret(),
				coldAt().ud2().jmp(transmit + 9).to(0x10).call(ratelimit).call(pullTail).jmp(transmit + 9)},
			Linearizes, "xennet_start_xmit.cold+0x15 calls __pskb_pull_tail"},
		{"a call behind a warning",
			fakeKernel{transmitAt().nop5().push().ud2().call(pullTail).ret()},
			Linearizes, "xennet_start_xmit+0x8 calls __pskb_pull_tail"},
		{"a tail call",
			fakeKernel{transmitAt().nop5().jmp(pullTail)},
			Linearizes, "xennet_start_xmit+0x5 jumps to __pskb_pull_tail"},
		{"a call that skips the landing instruction",
			fakeKernel{transmitAt().nop5().push().call(pullTail + 4).ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"a call into the padding, as call depth tracking patches it",
			fakeKernel{function("__pfx___pskb_pull_tail", "", pullTail-16).bytes(0x65, 0x48, 0xc1, 0x3c, 0x25, 0, 0, 0, 0, 5), // sarq $5,%gs:0
				transmitAt().nop5().push().call(pullTail - 10).ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"an outlined linearizer",
			fakeKernel{transmitAt().nop5().push().call(helper).ret(),
				function("__skb_linearize.isra.0", driverModule, helper).nop5().push().cmp18().ja(helper + 0x20).ret().to(0x20).jmp(pullTail)},
			Linearizes, "xennet_start_xmit+0x6 calls __skb_linearize.isra.0, __skb_linearize.isra.0+0x20 jumps to __pskb_pull_tail"},
		{"the rest of a function that was split",
			fakeKernel{transmitAt().nop5().push().jmp(helper),
				function("xennet_start_xmit.part.0", driverModule, helper).nop5().call(pullTail).ret()},
			Linearizes, "xennet_start_xmit.part.0+0x5 calls __pskb_pull_tail"},
		{"a stub without a symbol",
			fakeKernel{transmitAt().nop5().push().call(trampoline).ret(),
				function("", "", trampoline).endbr().bytes(0x66, 0x90).jmp(trampoline + 0x100).to(0x100).jmp(pullTail)},
			Linearizes, "xennet_start_xmit+0x6 calls a stub at 0xffffffffa0000100 that jumps to __pskb_pull_tail"},
		{"a patched fentry call does not disturb",
			fakeKernel{transmitAt().endbr().call(trampoline).push().call(pullTail).ret(), function("", "", trampoline).push().ret()},
			Linearizes, "xennet_start_xmit+0xa calls __pskb_pull_tail"},
		{"nor does a patched jump to a trampoline",
			fakeKernel{transmitAt().endbr().jmp(trampoline).push().call(pullTail).ret(), function("", "", trampoline).push().ret()},
			Linearizes, "xennet_start_xmit+0xa calls __pskb_pull_tail"},
		{"nor one without a landing instruction before it",
			fakeKernel{transmitAt().jmp(trampoline).push().call(pullTail).ret(), function("", "", trampoline).push().ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"built in",
			fakeKernel{function("xennet_start_xmit", "", transmit).nop5().push().call(pullTail).ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"found although another path is not understood",
			fakeKernel{transmitAt().nop5().push().cmp18().ja(transmit + 0x40).int3().to(0x40).call(pullTail).ret()},
			Linearizes, "xennet_start_xmit+0x40"},

		{"no call",
			fakeKernel{transmitAt().endbr().call(trampoline).push().cmp18().ja(transmit + 0x40).ret().to(0x40).call(ratelimit).call(freeAny).bytes(0x5b).jmp(returnThunk).int3(),
				function("", "", trampoline).push().ret()},
			Drops, "xennet_start_xmit in module xen_netfront, 11 instructions with 2 calls, never calls __pskb_pull_tail"},
		{"no call, with a patched jump to a trampoline",
			fakeKernel{transmitAt().endbr().jmp(trampoline).push().cmp18().ja(transmit + 0x40).ret().to(0x40).call(freeAny).ret(), function("", "", trampoline).push().ret()},
			Drops, "xennet_start_xmit in module xen_netfront, 10 instructions with 1 calls, never calls __pskb_pull_tail"},
		{"no call, with a cold part and a call that does not return",
			fakeKernel{transmitAt().nop5().push().cmp18().ja(coldPart).ret(), coldAt().call(freeAny)},
			Drops, "never calls"},
		{"no call, spare instructions behind a call that never comes back",
			fakeKernel{transmitAt().nop5().push().cmp18().ja(transmit + 0x20).ret().to(0x20).call(stackCheck).push().push().to(afterwards - transmit),
				function("__stack_chk_fail", "", stackCheck).bytes(0xc3)},
			Drops, "never calls"},
		{"no call, with a bug at the end and nops behind",
			fakeKernel{transmitAt().nop5().push().cmp18().ja(transmit + 0x20).ret().to(0x20).ud2().to(0x30)},
			Drops, "never calls"},
		{"no call, an indirect one through a thunk",
			fakeKernel{transmitAt().nop5().push().call(raxThunk).bytes(0xff, 0xd0).bytes(0x5b).jmp(raxThunk).int3()},
			Drops, "never calls"},
		{"no call, a static branch that is off",
			fakeKernel{transmitAt().nop5().push().nop5().ret().int3().call(ratelimit).jmp(transmit + 6)},
			Drops, "never calls"},
		{"no call, tail call of another function",
			fakeKernel{transmitAt().nop5().bytes(0x77, 0x05).jmp(freeAny).ja(ratelimit).bytes(0xc3)},
			Drops, "never calls"},
		{"no call, nor in what the driver calls of its own",
			fakeKernel{transmitAt().nop5().push().call(helper).ret(), function("xennet_tx_buf_gc", driverModule, helper).nop5().push().call(freeAny).ret()},
			Drops, "never calls"},

		{"a breakpoint hides an instruction",
			fakeKernel{transmitAt().nop5().push().int3().bytes(0xc0).ret()},
			Unknown, "breakpoint or unknown byte at xennet_start_xmit+0x6"},
		{"a breakpoint where no path was found",
			fakeKernel{transmitAt().nop5().push().nop5().ret().int3().call(ratelimit).int3().bytes(0xc0).jmp(transmit + 6)},
			Unknown, "breakpoint or unknown byte at xennet_start_xmit+0x13"},
		{"an unknown instruction",
			fakeKernel{transmitAt().nop5().push().bytes(0xc5, 0xf8, 0x77).ret()}, // vzeroupper
			Unknown, "xennet_start_xmit+0x6: instruction is not known"},
		{"a prefix alone is no instruction",
			fakeKernel{transmitAt().nop5().push().bytes(0xf2, 0x0f, 0x01, 0xff).ret()}, // pvalidate
			Unknown, "xennet_start_xmit+0x6: instruction is not known"},
		{"a jump table",
			fakeKernel{transmitAt().nop5().bytes(0x3e, 0xff, 0xe0).push().ret()}, // notrack jmp *%rax
			Unknown, "xennet_start_xmit+0x5 jumps to an address that is computed"},
		{"a detour",
			fakeKernel{transmitAt().nop5().jmp(trampoline).push().ret(), function("", "", trampoline).push().ret()},
			Unknown, "xennet_start_xmit+0x5 goes to 0xffffffffa0000000, where no symbol is"},
		{"an optimized probe",
			fakeKernel{transmitAt().nop5().jmp(trampoline).push().ret(), function("kprobe_optinsn_page", "__builtin__kprobes", trampoline).push().ret()},
			Unknown, "xennet_start_xmit+0x5 was replaced by a probe"},
		{"a call in a helper of another name",
			fakeKernel{transmitAt().nop5().push().call(helper).ret(), function("xennet_one_piece", driverModule, helper).nop5().push().call(pullTail).ret()},
			Unknown, "xennet_start_xmit+0x6 calls xennet_one_piece, xennet_one_piece+0x6 calls __pskb_pull_tail, which may not be meant for this packet"},
		{"a call that no path leads to",
			fakeKernel{transmitAt().nop5().push().nop5().ret().int3().call(pullTail).jmp(transmit + 6)},
			Unknown, "xennet_start_xmit+0xe calls __pskb_pull_tail, but no path to there was found"},
		{"code without an end",
			fakeKernel{transmitAt().nop5().push().to(afterwards - transmit)},
			Unknown, "code runs past the end of xennet_start_xmit"},
		{"two copies that differ",
			fakeKernel{transmitAt().nop5().push().call(pullTail).ret(),
				function("xennet_start_xmit", "", 0xffffffff81100000).nop5().push().ret(), function("after", "", 0xffffffff81100040).bytes(0xc3)},
			Unknown, "in module xen_netfront it is linearizes"},
		{"no driver",
			fakeKernel{}, Unknown, "xennet_start_xmit: symbol is inlined or renamed in this kernel, or the driver is not loaded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			kernel := append(networkCore(), test.driver...)
			answer, err := driverLinearizes(t.Context(), "amd64", kernel.symbols(t), kernel)
			if err != nil || answer.Value != test.value || !strings.Contains(answer.Evidence, test.evidence) {
				t.Errorf("%s: %q, error %v; want %s: %q", answer.Value, answer.Evidence, err, test.value, test.evidence)
			}
		})
	}
}

// TestDriverIsNotGuessed is about everything but the code.
func TestDriverIsNotGuessed(t *testing.T) {
	kernel := append(networkCore(), transmitAt().nop5().push().call(pullTail).ret())
	const linearizer = "ffffffff81001000 T __pskb_pull_tail\n"
	const driver = "ffffffffc0100000 t xennet_start_xmit\t[xen_netfront]\n"
	for _, test := range []struct {
		name, architecture, symbols, evidence string
		reader                                CodeReader
	}{
		{"another architecture", "riscv64", linearizer + driver, "machine code of riscv64 is not read", kernel},
		{"hidden addresses", "amd64", "0000000000000000 T __pskb_pull_tail\n0000000000000000 t xennet_start_xmit\t[xen_netfront]\n", ErrAddressesHidden.Error(), kernel},
		{"no linearizer", "amd64", driver, "__pskb_pull_tail: symbol is inlined or renamed in this kernel", kernel},
		{"no end of the function", "amd64", linearizer + driver, ErrExtentUnknown.Error(), kernel},
		{"code that cannot be read", "amd64", linearizer + driver + "ffffffffc0100040 t netif_exit\t[xen_netfront]\n", "code at 0xffffffffc0100000: nothing is mapped", fakeKernel{}},
		{"data of that name", "amd64", linearizer + strings.Replace(driver, " t ", " d ", 1), "xennet_start_xmit: symbol is inlined or renamed", kernel},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := driverLinearizes(t.Context(), test.architecture, mustParse(t, test.symbols, NetfrontSymbols()), test.reader)
			if err != nil || answer.Value != Unknown || !strings.Contains(answer.Evidence, test.evidence) {
				t.Errorf("%s: %q, error %v; want %s: %q", answer.Value, answer.Evidence, err, Unknown, test.evidence)
			}
		})
	}
}

func TestWalkEndsWithTheContext(t *testing.T) {
	kernel := append(networkCore(), transmitAt().nop5().push().call(freeAny).ret())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := driverLinearizes(ctx, "amd64", kernel.symbols(t), kernel); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// TestWalkIsBounded walks the largest function there can be, all of one-byte instructions.
func TestWalkIsBounded(t *testing.T) {
	kernel := append(networkCore()[:5], transmitAt().nop5().to(maxFunctionBytes).bytes(0xc3), function("behind", driverModule, transmit+maxFunctionBytes))
	answer, err := driverLinearizes(t.Context(), "amd64", kernel.symbols(t), kernel)
	if want := "more than 32768 instructions"; err != nil || answer.Value != Unknown || !strings.Contains(answer.Evidence, want) {
		t.Errorf("%s: %q, error %v; want %s: %q", answer.Value, answer.Evidence, err, Unknown, want)
	}
}

// FuzzWalk gives the walk any bytes as the driver: it must end, without a panic,
// and claim nothing but what a linear reading of the bytes allows.
func FuzzWalk(f *testing.F) {
	f.Add(transmitAt().nop5().push().call(pullTail).ret().code)
	f.Add(transmitAt().endbr().call(trampoline).push().cmp18().ja(transmit + 0x40).ret().to(0x40).call(ratelimit).call(freeAny).bytes(0x5b).jmp(returnThunk).int3().code)
	f.Add(transmitAt().nop5().bytes(0xeb, 0xfe).code)                         // jmp to itself
	f.Add(transmitAt().nop5().bytes(0x77, 0xf9, 0xeb, 0xf7, 0xe9).code)       // loops, and a truncated jump
	f.Add(transmitAt().nop5().push().jmp(trampoline).ud2().int3().code)       // out of the driver
	f.Add([]byte{0xf3, 0xf3, 0xf3, 0xf2, 0x66, 0x67, 0x2e, 0x0f, 0x38, 0xff}) // prefixes, an unknown opcode
	f.Fuzz(func(t *testing.T, code []byte) {
		code = code[:min(len(code), afterwards-transmit)]
		kernel := append(networkCore(), transmitAt().bytes(code...))
		answer, err := driverLinearizes(t.Context(), "amd64", kernel.symbols(t), kernel)
		if err != nil || answer.Evidence == "" {
			t.Fatalf("%s: %q, error %v", answer.Value, answer.Evidence, err)
		}
		if answer.Value == Linearizes && !mentions(code, transmit, pullTail-maxPrologueBytes, pullTail+endbrBytes) {
			t.Errorf("%q, but no four bytes of the code lead there", answer.Evidence)
		}
	})
}

// mentions reports whether any operand-sized piece of the code, or a jump of it
// back into the driver's page, can lead into the range.
func mentions(code []byte, at, low, high uint64) bool {
	padded := append(append([]byte{}, code...), 0xcc, 0xcc, 0xcc, 0xcc)
	for i := range code {
		to := at + uint64(i) + 4 + uint64(int64(int32(binary.LittleEndian.Uint32(padded[i:]))))
		if to >= low && to <= high {
			return true
		}
	}
	return false
}
