package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"xentrace/test/memory"
	"xentrace/test/need"
)

const sampleSymbols = `0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000010 t __pfx_xennet_start_xmit
ffffffff81000020 T xennet_start_xmit
ffffffff81000420 t xennet_start_xmit.part.0
ffffffff81000500 T unrelated
ffffffff81000500 T alias_of_unrelated
ffffffff81000580 W __pskb_pull_tail
ffffffff81000600 d some_data
ffffffffc0100040 t xennet_poll	[xen_netfront]
ffffffffc0100000 t xennet_start_xmit	[xen_netfront]
ffffffffc0101000 t xennet_start_xmit.cold	[xen_netfront]
ffffffffc0102000 t netif_exit	[xen_netfront]
ffffffffc0200000 t xennet_start_xmit_other	[other]
ffffffffc0900000 t $x	[other]
ffffffffc0900004 t outlined_skb_linearize.isra.0	[other]
`

func mustParse(t testing.TB, text string, want Wanted) *Symbols {
	t.Helper()
	symbols, err := ParseSymbols(strings.NewReader(text), want)
	if err != nil {
		t.Fatal(err)
	}
	return symbols
}

func names(symbols []Symbol) string {
	var all []string
	for _, s := range symbols {
		all = append(all, fmt.Sprintf("%s@%x/%s", s.Name, s.Address, s.Module))
	}
	return strings.Join(all, " ")
}

func TestSymbolsAreSelected(t *testing.T) {
	everything := func(Symbol) bool { return true }
	for _, test := range []struct {
		name string
		want Wanted
		kept string
	}{
		{"a name brings its parts and its prefix", Wanted{Names: []string{"xennet_start_xmit"}},
			"__pfx_xennet_start_xmit@ffffffff81000010/ xennet_start_xmit@ffffffff81000020/ xennet_start_xmit.part.0@ffffffff81000420/ " +
				"xennet_start_xmit@ffffffffc0100000/xen_netfront xennet_start_xmit.cold@ffffffffc0101000/xen_netfront"},
		{"a name with a suffix counts for its base", Wanted{Names: []string{"xennet_poll.isra.0"}}, "xennet_poll@ffffffffc0100040/xen_netfront"},
		{"a prefix", Wanted{Prefixes: []string{"xennet_start_xmit_"}}, "xennet_start_xmit_other@ffffffffc0200000/other"},
		{"a part of a name", Wanted{Contains: []string{"linearize"}}, "outlined_skb_linearize.isra.0@ffffffffc0900004/other"},
		{"a module", Wanted{Modules: []string{"other"}},
			"xennet_start_xmit_other@ffffffffc0200000/other outlined_skb_linearize.isra.0@ffffffffc0900004/other"},
		{"nothing", Wanted{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := names(mustParse(t, sampleSymbols, test.want).Select(everything)); got != test.kept {
				t.Errorf("kept\n%s, want\n%s", got, test.kept)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	symbols := mustParse(t, sampleSymbols, Wanted{Names: []string{"xennet_start_xmit"}})
	if got, want := names(symbols.Lookup("xennet_start_xmit")),
		"xennet_start_xmit@ffffffff81000020/ xennet_start_xmit@ffffffffc0100000/xen_netfront"; got != want {
		t.Errorf("lookup: %s, want %s", got, want)
	}
	variants := symbols.Select(func(s Symbol) bool { return s.Base() == "xennet_start_xmit" && s.Name != s.Base() })
	if got, want := names(variants),
		"xennet_start_xmit.part.0@ffffffff81000420/ xennet_start_xmit.cold@ffffffffc0101000/xen_netfront"; got != want {
		t.Errorf("variants: %s, want %s", got, want)
	}
	if got := symbols.Lookup("xennet_poll"); got != nil {
		t.Errorf("a symbol that was not wanted was kept: %v", got)
	}
}

func TestEndOfAFunction(t *testing.T) {
	symbols := mustParse(t, sampleSymbols, Wanted{Names: []string{"unrelated", "__pskb_pull_tail", "netif_exit", "outlined_skb_linearize"}, Modules: []string{"xen_netfront"}})
	for _, test := range []struct {
		symbol string
		end    uint64
		err    error
	}{
		{"unrelated", 0xffffffff81000580, nil}, // not its alias
		{"__pskb_pull_tail", 0xffffffff81000600, nil},
		{"xennet_poll", 0xffffffffc0101000, nil}, // the file is not sorted inside a module
		{"netif_exit", 0, ErrExtentUnknown},      // the next symbol is in another module, too far away
		{"outlined_skb_linearize.isra.0", 0, ErrExtentUnknown},
	} {
		t.Run(test.symbol, func(t *testing.T) {
			end, err := symbols.End(symbols.Lookup(test.symbol)[0])
			if end != test.end || !errors.Is(err, test.err) {
				t.Errorf("end %x, error %v; want %x, %v", end, err, test.end, test.err)
			}
		})
	}
}

func TestHiddenAddresses(t *testing.T) {
	symbols := mustParse(t, "0000000000000000 T a\n0000000000000000 t xennet_poll\t[xen_netfront]\n", Wanted{Names: []string{"xennet_poll"}})
	if err := symbols.Addresses(); !errors.Is(err, ErrAddressesHidden) {
		t.Errorf("error %v, want %v", err, ErrAddressesHidden)
	}
	found := symbols.Lookup("xennet_poll")
	if len(found) != 1 || found[0].Module != "xen_netfront" {
		t.Fatalf("names are not to be hidden: %v", found)
	}
	if _, err := symbols.End(found[0]); !errors.Is(err, ErrAddressesHidden) {
		t.Errorf("end: error %v, want %v", err, ErrAddressesHidden)
	}
	if err := mustParse(t, sampleSymbols, Wanted{}).Addresses(); err != nil {
		t.Errorf("addresses that are shown: %v", err)
	}
}

func TestSymbolsInSmallPieces(t *testing.T) {
	want := Wanted{Modules: []string{"xen_netfront", "other"}}
	whole := mustParse(t, sampleSymbols, want)
	for name, reader := range map[string]io.Reader{
		"a byte at a time":          iotest.OneByteReader(strings.NewReader(sampleSymbols)),
		"data with the end of file": iotest.DataErrReader(strings.NewReader(sampleSymbols)),
		"no newline at the end":     strings.NewReader(strings.TrimSuffix(sampleSymbols, "\n")),
	} {
		t.Run(name, func(t *testing.T) {
			pieces, err := ParseSymbols(reader, want)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := names(pieces.kept), names(whole.kept); got != want {
				t.Errorf("kept %s, want %s", got, want)
			}
			if len(pieces.addresses) != 14 {
				t.Errorf("%d addresses, want 14", len(pieces.addresses))
			}
		})
	}
}

func TestSymbolFileErrors(t *testing.T) {
	for name, text := range map[string]string{
		"not hexadecimal": "zz T a\n",
		"no name":         "ffffffff81000000 T \n",
		"no type":         "ffffffff81000000\n",
		"an endless line": strings.Repeat("f", 70<<10),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseSymbols(strings.NewReader(text), Wanted{}); err == nil {
				t.Error("no error")
			}
		})
	}
	broken := errors.New("broken")
	if _, err := ParseSymbols(iotest.ErrReader(broken), Wanted{}); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

// TestRunningKernelSymbols reads the real file, which must hold a function that
// every kernel with networking has.
// A name may end like a module without being followed by one.
func TestNamesThatLookLikeModules(t *testing.T) {
	for line, want := range map[string]string{
		"0 t x\t]":       "x\t]@0/",
		"0 t x]":         "x]@0/",
		"0 t x\t[":       "x\t[@0/",
		"0 t x\t[]":      "x@0/",
		"0 t x\t[m]":     "x@0/m",
		"0 t \t[m]":      "\t[m]@0/",
		"0 t x\t[m]\t[]": "x@0/m]\t[",
	} {
		want = strings.TrimSpace(want)
		if got := names(mustParse(t, line+"\n", Wanted{Contains: []string{""}}).kept); strings.TrimSpace(got) != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// repeated is a text over and over.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(b []byte) (int, error) {
	n := copy(b, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

func TestSymbolFileWithoutEnd(t *testing.T) {
	memory.Within(t, 1<<20, func() {
		if err := eachLine(&repeated{text: "0 t x\n"}, func([]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "over 128 MiB") {
			t.Errorf("error %v, want it over 128 MiB", err)
		}
	})
}

func FuzzKallsyms(f *testing.F) {
	f.Add(sampleSymbols)
	f.Add("0 t x\t]")
	f.Add("0 t \t[]")
	f.Add("ffffffffffffffff t " + strings.Repeat("x", 64<<10))
	f.Add(strings.Repeat("0 t $\t[m]\n", 1000))
	f.Fuzz(func(t *testing.T, text string) {
		memory.Within(t, 8<<20+64*uint64(len(text)), func() {
			symbols, err := ParseSymbols(strings.NewReader(text), Wanted{Names: []string{"x"}, Modules: []string{"m"}, Contains: []string{"linearize"}})
			if err == nil && len(symbols.kept) > len(symbols.addresses) {
				t.Errorf("%d symbols of %d are kept", len(symbols.kept), len(symbols.addresses))
			}
			functions, err := parseFunctions(strings.NewReader(text))
			if err != nil {
				return
			}
			for _, place := range functions.places[:min(len(functions.places), 16)] {
				if frame := functions.Frame(place.address + 1); frame.Function == "" && place.length > 0 {
					t.Fatalf("function at %#x has no name", place.address)
				}
			}
		})
	})
}

func TestRunningKernelSymbols(t *testing.T) {
	symbols, err := ReadSymbols(Wanted{Names: []string{"__pskb_pull_tail"}, Contains: []string{"linearize"}})
	if err != nil {
		t.Fatal(err)
	}
	found := symbols.Lookup("__pskb_pull_tail")
	if len(found) != 1 || !found[0].Text() || found[0].Module != "" {
		t.Fatalf("__pskb_pull_tail: %v", found)
	}
	need.Root(t, "to read the addresses of kernel functions")
	end, err := symbols.End(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if size := end - found[0].Address; size < 64 || size > 8192 {
		t.Errorf("__pskb_pull_tail is %d bytes long", size)
	}
}

func BenchmarkReadSymbols(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadSymbols(Wanted{Names: []string{"__pskb_pull_tail"}, Contains: []string{"linearize"}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseSymbols(b *testing.B) {
	text, err := os.ReadFile(kallsymsPath)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := ParseSymbols(strings.NewReader(string(text)), Wanted{Names: []string{"__pskb_pull_tail"}, Contains: []string{"linearize"}}); err != nil {
			b.Fatal(err)
		}
	}
}
