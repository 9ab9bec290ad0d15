package kernel

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"
)

func TestDecodeARM64(t *testing.T) {
	const at = 0xffff800008001000
	for _, test := range []struct {
		name   string
		word   uint32
		flow   flow
		target uint64
	}{
		{"nop", 0xd503201f, flowPadding, 0},
		{"bti c", 0xd503245f, flowPadding, 0},
		{"paciasp", 0xd503233f, flowPadding, 0},
		{"stp x29, x30, [sp, #-16]!", 0xa9bf7bfd, flowOn, 0},
		{"ldaddal, of 8.1", 0xb8e10001, flowOn, 0},
		{"mrs x0, sp_el0", 0xd5384100, flowOn, 0},
		{"dmb ish", 0xd5033bbf, flowOn, 0},
		{"hvc #0xea1, a call of Xen", 0xd41dd422, flowOn, 0},
		{"bl .+0x1000", 0x94000400, flowCall, at + 0x1000},
		{"bl .-4", 0x97ffffff, flowCall, at - 4},
		{"b .+8", 0x14000002, flowJump, at + 8},
		{"b .-128M", 0x16000000, flowJump, at - 128<<20},
		{"b.hi .+16", 0x54000088, flowBranch, at + 16},
		{"cbz x0, .-4", 0xb4ffffe0, flowBranch, at - 4},
		{"cbnz w19, .+32", 0x35000113, flowBranch, at + 32},
		{"tbz w1, #3, .+8", 0x36180041, flowBranch, at + 8},
		{"tbnz x20, #40, .-32768", 0xb7440014, flowBranch, at - 32768},
		{"br x16", 0xd61f0200, flowJumpIndirect, 0},
		{"blr x8", 0xd63f0100, flowCallIndirect, 0},
		{"blraa x8, sp", 0xd73f091f, flowCallIndirect, 0},
		{"ret", 0xd65f03c0, flowReturn, 0},
		{"retaa", 0xd65f0bff, flowReturn, 0},
		{"brk #0x800, a warning", 0xd4210000, flowTrap, 0},
		{"brk #4, a probe", 0xd4200080, flowBreakpoint, 0},
		{"udf #0", 0, flowBreakpoint, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := decodeARM64(binary.LittleEndian.AppendUint32(nil, test.word), at)
			if want := (instruction{4, test.flow, test.target}); err != nil || got != want {
				t.Errorf("%+v, error %v; want %+v", got, err, want)
			}
		})
	}
	for name, code := range map[string][]byte{
		"three bytes":            {0x1f, 0x20, 0x03},
		"sve: ptrue p0.b":        {0xe0, 0xe3, 0x18, 0x25},
		"unallocated":            {0, 0, 0, 0x02},
		"unallocated branch":     {0, 0, 0, 0x55},
		"compare and branch 9.6": {0, 0, 0, 0x74},
	} {
		if got, err := decodeARM64(code, at); !errors.Is(err, errNotDecoded) {
			t.Errorf("%s: %+v, error %v", name, got, err)
		}
	}
}

// A module whose calls go through the loader's veneers.
func TestARM64Veneers(t *testing.T) {
	const (
		pullTailAt = 0xffffd00010203458
		freeAt     = 0xffffd00010303000
		driverAt   = 0xffffd00078001000
		veneersAt  = 0xffffd00078000ff0 // right before the driver's first function
	)
	veneer := func(at, to uint64, landing bool) []byte {
		code := []uint32{}
		if landing {
			code, at = append(code, 0xd503245f), at+4
		}
		pages := uint32(to>>12 - at>>12)
		code = append(code, 0x90000010|pages&3<<29|pages>>2&0x7ffff<<5, 0x91000210|uint32(to&0xfff)<<10, 0xd61f0200)
		return words(code...)
	}
	for _, landing := range []bool{false, true} {
		code := veneer(veneersAt, pullTailAt, landing)
		if got, is := arm64Veneer(code, veneersAt); !is || got != pullTailAt {
			t.Errorf("%#x, %v, want %#x", got, is, uint64(pullTailAt))
		}
	}
	if _, is := arm64Veneer(words(0xd503245f, 0xd503201f, 0xd61f0200, 0), veneersAt); is {
		t.Error("other code is taken for a veneer")
	}
	for _, test := range []struct {
		name string
		to   uint64
		want Linearization
	}{{"to the linearizer", pullTailAt, Linearizes}, {"to another function", freeAt, Drops}} {
		t.Run(test.name, func(t *testing.T) {
			driver := words(0xd503245f, 0xd503201f, 0x97fffffa, 0xd65f03c0) // bti c; nop; bl of the veneer; ret
			core := words(0xd503245f, 0xd65f03c0)
			kernel := fakeKernel{
				&listing{name: "__pskb_pull_tail", at: pullTailAt, code: core}, &listing{name: "__dev_kfree_skb_any", at: freeAt, code: core},
				&listing{at: veneersAt, code: veneer(veneersAt, test.to, false)},
				&listing{name: transmitFunction, module: driverModule, at: driverAt, code: driver},
				&listing{name: "netif_exit", module: driverModule, at: driverAt + uint64(len(driver)), code: core},
			}
			answer, err := driverLinearizes(t.Context(), "arm64", kernel.symbols(t), kernel)
			if err != nil || answer.Value != test.want {
				t.Errorf("%s: %q, error %v; want %s", answer.Value, answer.Evidence, err, test.want)
			}
		})
	}
}

// TestDecodeARM64Agrees compares with a full disassembler on random branches.
func TestDecodeARM64Agrees(t *testing.T) {
	const at = 0x10000000
	random := rand.New(rand.NewPCG(1, 2))
	compared := 0
	for range 500_000 {
		word := random.Uint32()&^(7<<26) | 5<<26
		code := binary.LittleEndian.AppendUint32(nil, word)
		full, err := arm64asm.Decode(code)
		if err != nil {
			continue
		}
		want, target := flowOn, uint64(0)
		for _, argument := range full.Args {
			if relative, is := argument.(arm64asm.PCRel); is {
				target = uint64(int64(at) + int64(relative))
			}
		}
		switch full.Op {
		case arm64asm.B:
			want = flowJump
			if _, conditional := full.Args[0].(arm64asm.Cond); conditional {
				want = flowBranch
			}
		case arm64asm.BL:
			want = flowCall
		case arm64asm.CBZ, arm64asm.CBNZ, arm64asm.TBZ, arm64asm.TBNZ:
			want = flowBranch
		case arm64asm.BR:
			want = flowJumpIndirect
		case arm64asm.BLR:
			want = flowCallIndirect
		case arm64asm.RET, arm64asm.ERET, arm64asm.DRPS:
			want = flowReturn
		case arm64asm.NOP, arm64asm.HINT, arm64asm.YIELD, arm64asm.WFE, arm64asm.WFI, arm64asm.SEV, arm64asm.SEVL:
			want = flowPadding
		case arm64asm.BRK, arm64asm.HLT, arm64asm.DCPS1, arm64asm.DCPS2, arm64asm.DCPS3:
			want = flowTrap
		}
		got, err := decodeARM64(code, at)
		if got.flow == flowBreakpoint && full.Op == arm64asm.BRK {
			got.flow = flowTrap
		}
		if err != nil || got.flow != want || got.target != target {
			t.Fatalf("%08x %v: %+v, error %v; want flow %d, target %#x", word, full, got, err, want, target)
		}
		compared++
	}
	if compared < 30_000 {
		t.Errorf("%d instructions compared, want at least 30000", compared)
	}
}
