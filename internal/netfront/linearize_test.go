package netfront

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"xentrace/internal/kernel"
	"xentrace/test/machinecode"
	"xentrace/test/memory"
)

// Where the functions of the fake kernels lie.
const (
	pullTail    = 0xffffffff81001000
	ratelimit   = 0xffffffff81002000
	freeAny     = 0xffffffff81003000
	trampoline  = 0xffffffffa0000000 // without a symbol
	transmit    = 0xffffffffc0100000
	afterwards  = 0xffffffffc0100200
	coldPart    = 0xffffffffc0101000
	coldAfter   = 0xffffffffc0101100
	helper      = 0xffffffffc0102000
	helperAfter = 0xffffffffc0102100
)

// networkCore is what every fake kernel has besides the driver.
func networkCore() machinecode.Kernel {
	return machinecode.Kernel{
		machinecode.Function("__pskb_pull_tail", "", pullTail).Endbr().Nop5().Push().Ret(),
		machinecode.Function("net_ratelimit", "", ratelimit).Nop5().Push().Ret(),
		machinecode.Function("__dev_kfree_skb_any", "", freeAny).Nop5().Push().Ret(),
		machinecode.Function("after_free", "", freeAny+0x40).Bytes(0xc3),
		machinecode.Function("netif_exit", Module, afterwards).Bytes(0xc3),
		machinecode.Function("cleanup.cold", Module, coldAfter).Bytes(0xc3),
		machinecode.Function("after_helper", Module, helperAfter).Bytes(0xc3),
	}
}

func transmitAt() *machinecode.Listing {
	return machinecode.Function("xennet_start_xmit", Module, transmit)
}
func coldAt() *machinecode.Listing {
	return machinecode.Function("xennet_start_xmit.cold", Module, coldPart)
}

func TestDriverLinearizes(t *testing.T) {
	for _, test := range []struct {
		name     string
		driver   machinecode.Kernel
		value    Linearization
		evidence string // a part of it
	}{
		{"a call",
			machinecode.Kernel{transmitAt().Nop5().Push().Call(pullTail).Ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"a call far into the function",
			machinecode.Kernel{transmitAt().Nop5().Push().Cmp18().Ja(transmit + 0x40).Ret().To(0x40).Call(pullTail).Jmp(transmit + 5)},
			Linearizes, "xennet_start_xmit+0x40 calls __pskb_pull_tail"},
		{"a call in the cold part",
			machinecode.Kernel{
				transmitAt().Endbr().Nop5().Push().Cmp18().Ja(coldPart + 0x10).Ret(),
				coldAt().UD2().Jmp(transmit + 9).To(0x10).Call(ratelimit).Call(pullTail).Jmp(transmit + 9)},
			Linearizes, "xennet_start_xmit.cold+0x15 calls __pskb_pull_tail"},
		{"a tail call",
			machinecode.Kernel{transmitAt().Nop5().Jmp(pullTail)},
			Linearizes, "xennet_start_xmit+0x5 calls __pskb_pull_tail"},
		{"a conditional tail call",
			machinecode.Kernel{transmitAt().Nop5().Ja(pullTail).Ret()},
			Linearizes, "xennet_start_xmit+0x5 calls __pskb_pull_tail"},
		{"a call that skips the landing instruction",
			machinecode.Kernel{transmitAt().Nop5().Push().Call(pullTail + 4).Ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"a call into the padding, as call depth tracking patches it",
			machinecode.Kernel{machinecode.Function("__pfx___pskb_pull_tail", "", pullTail-16).Bytes(0x65, 0x48, 0xc1, 0x3c, 0x25, 0, 0, 0, 0, 5), // sarq $5,%gs:0
				transmitAt().Nop5().Push().Call(pullTail - 10).Ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"a call that somebody probes",
			machinecode.Kernel{transmitAt().Nop5().Push().Relative(pullTail, 0xcc).Ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"an outlined linearizer",
			machinecode.Kernel{transmitAt().Nop5().Push().Call(helper).Ret(),
				machinecode.Function("__skb_linearize.isra.0", Module, helper).Nop5().Push().Cmp18().Ja(helper + 0x20).Ret().To(0x20).Jmp(pullTail)},
			Linearizes, "xennet_start_xmit+0x6 calls __skb_linearize.isra.0, __skb_linearize.isra.0+0x20 calls __pskb_pull_tail"},
		{"the rest of a function that was split",
			machinecode.Kernel{transmitAt().Nop5().Push().Jmp(helper),
				machinecode.Function("xennet_start_xmit.part.0", Module, helper).Nop5().Call(pullTail).Ret()},
			Linearizes, "xennet_start_xmit.part.0+0x5 calls __pskb_pull_tail"},
		{"built in",
			machinecode.Kernel{machinecode.Function("xennet_start_xmit", "", transmit).Nop5().Push().Call(pullTail).Ret()},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"behind an instruction that nobody knows",
			machinecode.Kernel{transmitAt().Nop5().Push().Bytes(0xc5, 0xf8, 0x77).Call(pullTail).Ret()}, // vzeroupper
			Linearizes, "xennet_start_xmit+0x9 calls __pskb_pull_tail"},

		{"no call",
			machinecode.Kernel{transmitAt().Endbr().Call(trampoline).Push().Cmp18().Ja(transmit+0x40).Ret().To(0x40).Call(ratelimit).Call(freeAny).Bytes(0x5b, 0xc3),
				machinecode.Function("", "", trampoline).Push().Ret()},
			Drops, "xennet_start_xmit in module xen_netfront never calls __pskb_pull_tail; it calls 1 functions"},
		{"no call, the free in the cold part",
			machinecode.Kernel{transmitAt().Nop5().Push().Cmp18().Ja(coldPart).Ret(), coldAt().Call(freeAny)},
			Drops, "never calls"},
		{"no call, nor in what the driver calls of its own",
			machinecode.Kernel{transmitAt().Nop5().Push().Call(helper).Call(freeAny).Ret(), machinecode.Function("xennet_tx_buf_gc", Module, helper).Nop5().Push().Call(freeAny).Ret()},
			Drops, "never calls"},
		{"no call but of the address 1 byte before the linearizer's padding",
			machinecode.Kernel{transmitAt().Nop5().Push().Call(freeAny).Call(pullTail - 1).Ret()},
			Drops, "never calls"},

		{"code that frees nothing is not the driver's",
			machinecode.Kernel{transmitAt().Nop5().Push().Call(ratelimit).Ret()},
			Unknown, "frees no packet as far as its code shows"},
		{"zeros",
			machinecode.Kernel{transmitAt().Bytes(make([]byte, 0x100)...)},
			Unknown, "frees no packet as far as its code shows"},
		{"an optimized probe",
			machinecode.Kernel{transmitAt().Nop5().Jmp(trampoline + 0x40).Call(freeAny).Ret(), machinecode.Function("kprobe_optinsn_page", "__builtin__kprobes", trampoline).Push().Ret()},
			Unknown, "a kprobe replaced the code at xennet_start_xmit+0x5"},
		{"a call in a helper of another name",
			machinecode.Kernel{transmitAt().Nop5().Push().Call(helper).Ret(), machinecode.Function("xennet_one_piece", Module, helper).Nop5().Push().Call(pullTail).Ret()},
			Unknown, "xennet_start_xmit+0x6 calls xennet_one_piece, xennet_one_piece+0x6 calls __pskb_pull_tail, which may not be meant for this packet"},
		{"two copies that differ",
			machinecode.Kernel{transmitAt().Nop5().Push().Call(pullTail).Ret(),
				machinecode.Function("xennet_start_xmit", "", 0xffffffff81100000).Nop5().Push().Call(freeAny).Ret(), machinecode.Function("after", "", 0xffffffff81100040).Bytes(0xc3)},
			Unknown, "in module xen_netfront it linearizes"},
		{"no driver",
			machinecode.Kernel{}, Unknown, "xennet_start_xmit: symbol is inlined or renamed in this kernel, or the driver is not loaded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := append(networkCore(), test.driver...)
			answer, err := answerOn(t.Context(), "amd64", parse(t, fake.Kallsyms(), Symbols()), fake)
			if err != nil || answer.Value != test.value || !strings.Contains(answer.Evidence, test.evidence) {
				t.Errorf("%s: %q, error %v; want %s: %q", answer.Value, answer.Evidence, err, test.value, test.evidence)
			}
		})
	}
}

// Only a driver that has a function for TX responses and does not call it from its transmit
// function is known to leave them.
func TestLeavesResponses(t *testing.T) {
	collect := machinecode.Function(collectFunction, Module, helper).Nop5().Push().Call(freeAny).Ret()
	for _, test := range []struct {
		name   string
		driver machinecode.Kernel
		leaves bool
	}{
		{"it calls it", machinecode.Kernel{transmitAt().Nop5().Push().Call(pullTail).Call(helper).Call(freeAny).Ret(), collect}, false},
		{"it does not", machinecode.Kernel{transmitAt().Nop5().Push().Call(pullTail).Call(freeAny).Ret(), collect}, true},
		{"it does not, and drops", machinecode.Kernel{transmitAt().Nop5().Push().Call(freeAny).Ret(), collect}, true},
		{"in its cold part", machinecode.Kernel{transmitAt().Nop5().Push().Call(freeAny).Ret(), coldAt().Call(helper).Ret(), collect}, false},
		{"the function was inlined", machinecode.Kernel{transmitAt().Nop5().Push().Call(pullTail).Call(freeAny).Ret()}, false},
		{"two copies, of which one calls it", machinecode.Kernel{
			transmitAt().Nop5().Push().Call(pullTail).Call(freeAny).Ret(), collect,
			machinecode.Function("xennet_start_xmit", "", 0xffffffff81100000).Nop5().Push().Call(pullTail).Call(0xffffffff81100040).Call(freeAny).Ret(),
			machinecode.Function(collectFunction, "", 0xffffffff81100040).Nop5().Ret(), machinecode.Function("after", "", 0xffffffff81100060).Bytes(0xc3)}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := append(networkCore(), test.driver...)
			answer, err := answerOn(t.Context(), "amd64", parse(t, fake.Kallsyms(), Symbols()), fake)
			if err != nil || answer.Value == Unknown || answer.LeavesResponses != test.leaves {
				t.Errorf("%+v, error %v; want %v", answer, err, test.leaves)
			}
		})
	}
}

func answerOn(ctx context.Context, architecture string, symbols *kernel.Symbols, reader kernel.CodeReader) (Answer, error) {
	return linearizes(ctx, &kernel.Code{Architecture: architecture, Symbols: symbols, Reader: reader})
}

// TestDriverIsNotGuessed is about everything but the code.
func TestDriverIsNotGuessed(t *testing.T) {
	fake := append(networkCore(), transmitAt().Nop5().Push().Call(pullTail).Ret())
	const linearizer = "ffffffff81001000 T __pskb_pull_tail\n"
	const driver = "ffffffffc0100000 t xennet_start_xmit\t[xen_netfront]\n"
	for _, test := range []struct {
		name, architecture, symbols, evidence string
		reader                                kernel.CodeReader
	}{
		{"another architecture", "riscv64", linearizer + driver, "machine code of riscv64 is not analysed", fake},
		{"hidden addresses", "amd64", "0000000000000000 T __pskb_pull_tail\n0000000000000000 t xennet_start_xmit\t[xen_netfront]\n", kernel.ErrAddressesHidden.Error(), fake},
		{"no linearizer", "amd64", driver, "__pskb_pull_tail: symbol is inlined or renamed in this kernel", fake},
		{"no end of the function", "amd64", linearizer + driver, kernel.ErrExtentUnknown.Error(), fake},
		{"code that cannot be read", "amd64", linearizer + driver + "ffffffffc0100040 t netif_exit\t[xen_netfront]\n", "code of xennet_start_xmit at 0xffffffffc0100000: nothing is mapped", machinecode.Kernel{}},
		{"data of that name", "amd64", linearizer + strings.Replace(driver, " t ", " d ", 1), "xennet_start_xmit: symbol is inlined or renamed", fake},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := answerOn(t.Context(), test.architecture, parse(t, test.symbols, Symbols()), test.reader)
			if err != nil || answer.Value != Unknown || !strings.Contains(answer.Evidence, test.evidence) {
				t.Errorf("%s: %q, error %v; want %s: %q", answer.Value, answer.Evidence, err, Unknown, test.evidence)
			}
		})
	}
}

func TestAnalysisEndsWithTheContext(t *testing.T) {
	fake := append(networkCore(), transmitAt().Nop5().Push().Call(freeAny).Ret())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := answerOn(ctx, "amd64", parse(t, fake.Kallsyms(), Symbols()), fake); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// FuzzLinearizes gives any bytes as the driver: the analysis must end, without a panic, and
// claim nothing that the bytes do not say.
func FuzzLinearizes(f *testing.F) {
	f.Add(transmitAt().Nop5().Push().Call(pullTail).Ret().Code)
	f.Add(transmitAt().Endbr().Call(trampoline).Push().Cmp18().Ja(transmit + 0x40).Ret().To(0x40).Call(ratelimit).Call(freeAny).Code)
	f.Add([]byte{0xe8})
	f.Add([]byte{0x0f, 0x87, 0, 0, 0})
	f.Fuzz(func(t *testing.T, code []byte) {
		code = code[:min(len(code), afterwards-transmit)]
		fake := append(networkCore(), transmitAt().Bytes(code...))
		symbols := parse(t, fake.Kallsyms(), Symbols())
		var answer Answer
		var err error
		memory.Within(t, 1<<20, func() { answer, err = answerOn(t.Context(), "amd64", symbols, fake) })
		if err != nil || answer.Evidence == "" {
			t.Fatalf("%s: %q, error %v", answer.Value, answer.Evidence, err)
		}
		if leads := mentions(code, transmit, pullTail, pullTail+4); answer.Value == Linearizes && !leads || answer.Value == Drops && !mentions(code, transmit, freeAny, freeAny+4) {
			t.Errorf("%s: %q, but no four bytes of the code lead there", answer.Value, answer.Evidence)
		}
	})
}

// mentions reports whether any four bytes of the code can be a distance into the range.
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
