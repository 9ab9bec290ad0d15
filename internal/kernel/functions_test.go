package kernel

import (
	"errors"
	"strings"
	"testing"

	"xentrace/test/need"
)

// Modules come behind the kernel proper and in no order, and some addresses have
// two names.
const functionsListing = `0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000100 t first
ffffffff81000200 T second
ffffffff81000200 t second_alias
ffffffff81000280 D data
ffffffff81000300 W weak
ffffffffc0900000 t later_function	[later_module]
ffffffffc0100000 t early_function	[early_module]
ffffffffc0100040 t early_function.cold	[early_module]
ffffffffc0a00000 t bpf_prog_6deef7357e7b4530_elsewhere_free	[bpf]
`

func TestFrames(t *testing.T) {
	functions, err := parseFunctions(strings.NewReader(functionsListing))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		address uint64
		want    string
	}{
		{0xffffffff81000101, "first+0x1"},
		{0xffffffff810001ff, "first+0xff"},
		{0xffffffff81000200, "first+0x100"}, // behind a call that is its last instruction
		{0xffffffff81000201, "second+0x1"},
		{0xffffffff81000300, "second+0x100"},
		{0xffffffff81000310, "weak+0x10"},
		{0xffffffffc0100010, "early_function+0x10 [early_module]"},
		{0xffffffffc0100050, "early_function.cold+0x10 [early_module]"},
		{0xffffffffc0900020, "later_function+0x20 [later_module]"},
		{0xffffffffc0a00008, "bpf_prog_6deef7357e7b4530_elsewhere_free+0x8 [bpf]"},
		{0xffffffffc0500000, "0xffffffffc0500000"}, // far behind the last function
		{0xffffffff80ffffff, "0xffffffff80ffffff"},
		{0, "0x0"},
	} {
		if got := functions.Frame(test.address).String(); got != test.want {
			t.Errorf("%#x is %q, want %q", test.address, got, test.want)
		}
	}
}

func TestHiddenFunctions(t *testing.T) {
	_, err := parseFunctions(strings.NewReader("0000000000000000 T _text\n0000000000000000 t first\n"))
	if !errors.Is(err, ErrAddressesHidden) {
		t.Errorf("error %v, want that addresses are hidden", err)
	}
	if _, err := parseFunctions(strings.NewReader("nonsense\n")); err == nil {
		t.Error("no error for nonsense")
	}
}

// The running kernel's own functions: every one is found at its address, and they
// take little memory.
func TestFunctionsOfThisKernel(t *testing.T) {
	need.Root(t, "to read the addresses of kernel functions")
	functions, err := ReadFunctions()
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := ReadSymbols(DropSymbols())
	if err != nil {
		t.Fatal(err)
	}
	completion, err := Completion(symbols)
	if err != nil {
		t.Fatal(err)
	}
	if got := functions.Frame(completion + 0x10).String(); got != "net_tx_action+0x10" {
		t.Errorf("%#x is %q, want net_tx_action+0x10", completion+0x10, got)
	}
	const placeBytes = 16
	if bytes := len(functions.places)*placeBytes + len(functions.names); len(functions.places) < 10_000 || bytes > 64*len(functions.places) {
		t.Errorf("%d functions in %d bytes", len(functions.places), bytes)
	}
}
