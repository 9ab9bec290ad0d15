package kernel

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestDecodeX86(t *testing.T) {
	const at = 0xffffffffc0001000
	for _, test := range []struct {
		name, code string
		want       instruction
	}{
		{"nop", "90", instruction{1, flowPadding, 0}},
		{"nop of 5 bytes, ftrace's", "0f 1f 44 00 00", instruction{5, flowPadding, 0}},
		{"nop of 11 bytes", "66 66 2e 0f 1f 84 00 00 00 00 00", instruction{11, flowPadding, 0}},
		{"endbr64", "f3 0f 1e fa", instruction{4, flowPadding, 0}},
		{"endbr64 that was made a nop", "0f 1f 40 00", instruction{4, flowPadding, 0}},
		{"call", "e8 fb 0f 00 00", instruction{5, flowCall, at + 0x1000}},
		{"call backwards", "e8 fb ef ff ff", instruction{5, flowCall, at - 0x1000}},
		{"call with a padding prefix", "2e e8 fa 0f 00 00", instruction{6, flowCall, at + 0x1000}},
		{"call of a register", "ff d0", instruction{2, flowCallIndirect, 0}},
		{"call of memory", "ff 14 25 00 10 00 81", instruction{7, flowCallIndirect, 0}},
		{"jmp", "e9 fb 0f 00 00", instruction{5, flowJump, at + 0x1000}},
		{"jmp short", "eb fe", instruction{2, flowJump, at}},
		{"jmp of a register", "ff e0", instruction{2, flowJumpIndirect, 0}},
		{"notrack jmp", "3e ff e0", instruction{3, flowJumpIndirect, 0}},
		{"ja", "0f 87 fa 0f 00 00", instruction{6, flowBranch, at + 0x1000}},
		{"je short", "74 10", instruction{2, flowBranch, at + 0x12}},
		{"jrcxz", "e3 10", instruction{2, flowBranch, at + 0x12}},
		{"loop", "e2 fe", instruction{2, flowBranch, at}},
		{"ret", "c3", instruction{1, flowReturn, 0}},
		{"ret with a prefix", "f3 c3", instruction{2, flowReturn, 0}},
		{"iretq", "48 cf", instruction{2, flowReturn, 0}},
		{"ud2", "0f 0b", instruction{2, flowTrap, 0}},
		{"ud1", "67 0f b9 40 0c", instruction{5, flowTrap, 0}},
		{"ud1 of a warning", "67 48 0f b9 3a", instruction{5, flowTrap, 0}},
		{"ud1 of another register", "4c 0f b9 40 0c", instruction{5, flowTrap, 0}},
		{"int3", "cc", instruction{1, flowBreakpoint, 0}},
		{"int $3, the long way", "cd 03", instruction{2, flowBreakpoint, 0}},
		{"per-CPU counter", "65 48 c1 3c 25 00 10 00 81 05", instruction{10, flowOn, 0}},
		{"lock cmpxchg", "f0 48 0f b1 0a", instruction{5, flowOn, 0}},
		{"mov of a 64-bit number", "48 b8 f0 de bc 9a 78 56 34 12", instruction{10, flowOn, 0}},
		{"rep stos", "f3 48 ab", instruction{3, flowOn, 0}},
		{"serialize", "0f 01 e8", instruction{3, flowOn, 0}},
		{"lfence", "0f ae e8", instruction{3, flowOn, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code := bytesOf(t, test.code)
			got, err := decodeX86(append(code, 0x90, 0x90, 0x90), at)
			if err != nil || got != test.want {
				t.Errorf("%+v, error %v; want %+v", got, err, test.want)
			}
			if got, err := decodeX86(code[:len(code)-1], at); err == nil && got.length >= len(code) {
				t.Errorf("without its last byte it is %+v", got)
			}
		})
	}
}

func TestUndecodableX86(t *testing.T) {
	for name, code := range map[string]string{
		"nothing":                     "",
		"a prefix alone":              "f3",
		"a prefix before unknown":     "f3 0f 01 fe", // rmpadjust
		"a warning that is cut short": "67 48 0f b9",
		"AVX":                         "c5 f8 77",
		"AVX of three bytes":          "c4 e2 78 49 c0",
		"AVX-512":                     "62 f1 7c 48 28 00",
		"a call of 16 bits":           "66 e8 00 00 00 00",
		"an opcode that is none":      "ea 00 00 00 00 00 00",
		"prefixes without an end":     "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 66",
		"a call that is cut short":    "e8 00 00",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := decodeX86(bytesOf(t, code), 0x1000); !errors.Is(err, errNotDecoded) {
				t.Errorf("%+v, error %v; want %v", got, err, errNotDecoded)
			}
		})
	}
}

func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	code, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return code
}
