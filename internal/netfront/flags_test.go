package netfront

import (
	"slices"
	"strings"
	"testing"

	"xentrace/internal/kernel"
	"xentrace/test/machinecode"
)

func TestTestedBytes(t *testing.T) {
	const low, high = 0x940, 0xa40
	for name, test := range map[string]struct {
		code []byte
		want []uint32
	}{
		"5.10":                     {[]byte{0x90, 0x80, 0xbe, 0x7a, 9, 0, 0, 0, 0x75, 1, 0x80, 0xb9, 0x7b, 9, 0, 0, 0}, []uint32{0x97a, 0x97b}},
		"registers from r8 on":     {[]byte{0x41, 0x80, 0xbb, 0x7a, 9, 0, 0, 0, 0x41, 0x80, 0xbd, 0x7b, 9, 0, 0, 0}, []uint32{0x97a, 0x97b}},
		"r12, which has a SIB":     {[]byte{0x41, 0x80, 0xbc, 0x24, 0x7a, 9, 0, 0, 0}, []uint32{0x97a}},
		"an index":                 {[]byte{0x41, 0x80, 0xbc, 0x34, 0x7a, 9, 0, 0, 0}, nil},
		"twice":                    {[]byte{0x80, 0xbe, 0x7a, 9, 0, 0, 0, 0x80, 0xbe, 0x7a, 9, 0, 0, 0}, []uint32{0x97a}},
		"bounce first":             {[]byte{0x80, 0xbe, 0x7b, 9, 0, 0, 0, 0x80, 0xbe, 0x7a, 9, 0, 0, 0}, []uint32{0x97b, 0x97a}},
		"compared with 1":          {[]byte{0x80, 0xbe, 0x7a, 9, 0, 0, 1}, nil},
		"another operation (andb)": {[]byte{0x80, 0xa6, 0x7a, 9, 0, 0, 0}, nil},
		"below the private area":   {[]byte{0x80, 0xbe, 0x3f, 9, 0, 0, 0}, nil},
		"behind the private area":  {[]byte{0x80, 0xbe, 0x40, 0xa, 0, 0, 0}, nil},
		"cut off":                  {[]byte{0x80, 0xbe, 0x7a, 9, 0, 0}, nil},
		"cut off behind a SIB":     {[]byte{0x80, 0xbc, 0x24, 0x7a, 9, 0, 0}, nil},
		"nothing":                  {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := testedBytes(test.code, low, high); !slices.Equal(got, test.want) {
				t.Errorf("%#x, want %#x", got, test.want)
			}
		})
	}
}

func TestFlagsInCode(t *testing.T) {
	const private = 0x940
	tests := func(at byte) []byte { return []byte{0x80, 0xbe, at, 9, 0, 0, 0} }
	for name, test := range map[string]struct {
		architecture string
		driver       machinecode.Kernel
		want         Flags // none: an error
	}{
		"broken, then bounce":      {"amd64", machinecode.Kernel{transmitAt().Nop5().Bytes(tests(0x7a)...).Bytes(tests(0x7b)...).Ret()}, Flags{0x97a, 0x97b}},
		"bounce, then broken":      {"amd64", machinecode.Kernel{transmitAt().Nop5().Bytes(tests(0x7b)...).Bytes(tests(0x7a)...).Ret()}, Flags{}},
		"one flag, as before 5.10": {"amd64", machinecode.Kernel{transmitAt().Nop5().Bytes(tests(0x7a)...).Ret()}, Flags{}},
		"three":                    {"amd64", machinecode.Kernel{transmitAt().Nop5().Bytes(tests(0x7a)...).Bytes(tests(0x7b)...).Bytes(tests(0x7c)...).Ret()}, Flags{}},
		"not next to each other":   {"amd64", machinecode.Kernel{transmitAt().Nop5().Bytes(tests(0x7a)...).Bytes(tests(0x7c)...).Ret()}, Flags{}},
		"none":                     {"amd64", machinecode.Kernel{transmitAt().Nop5().Ret()}, Flags{}},
		"in another function":      {"amd64", machinecode.Kernel{transmitAt().Nop5().Ret(), machinecode.Function("xennet_open", Module, helper).Bytes(tests(0x7a)...).Bytes(tests(0x7b)...)}, Flags{}},
		"no driver":                {"amd64", nil, Flags{}},
		"another architecture":     {"arm64", machinecode.Kernel{transmitAt().Nop5().Bytes(tests(0x7a)...).Bytes(tests(0x7b)...).Ret()}, Flags{}},
	} {
		t.Run(name, func(t *testing.T) {
			fake := append(networkCore(), test.driver...)
			symbols, err := kernel.ParseSymbols(strings.NewReader(fake.Kallsyms()), LinearizeSymbols())
			if err != nil {
				t.Fatal(err)
			}
			got, err := flagsIn(t.Context(), &kernel.Code{Architecture: test.architecture, Symbols: symbols, Reader: fake}, private)
			if got != test.want || (err == nil) != (test.want != Flags{}) {
				t.Errorf("%+v, error %v; want %+v", got, err, test.want)
			}
		})
	}
}
