package netfront

import (
	"errors"
	"strings"
	"testing"

	"xentrace/internal/kernel"
)

const driverSymbols = "ffffffffc0100000 t xennet_start_xmit\t[xen_netfront]\nffffffffc0100800 t xennet_tx_buf_gc.isra.0\t[xen_netfront]\n" +
	"ffffffffc0100900 d xennet_max_queues\t[xen_netfront]\nffffffffc0100a00 t bounce_skb\t[xen_netfront]\n"

func TestFind(t *testing.T) {
	for _, test := range []struct {
		name, symbols, module string
		functions             int
		err                   error
	}{
		{"a module", driverSymbols, "xen_netfront", 3, nil},
		{"built in", strings.ReplaceAll(driverSymbols, "\t[xen_netfront]", ""), "", 2, nil}, // bounce_skb cannot be distinguished
		{"built in and a module", "ffffffff81000000 t xennet_poll\n" + driverSymbols, "", 1, nil},
		{"addresses are hidden", "0000000000000000 t xennet_start_xmit\t[xen_netfront]\n", "xen_netfront", 1, nil},
		{"the backend is not it", "ffffffffc0100000 t xenvif_tx_action\t[xen_netback]\n", "", 0, ErrNotLoaded},
		{"data is not it", "ffffffff81000000 d xennet_max_queues\n", "", 0, ErrNotLoaded},
	} {
		t.Run(test.name, func(t *testing.T) {
			driver, err := Find(parse(t, test.symbols, Symbols()))
			if driver.Module != test.module || len(driver.functions) != test.functions || !errors.Is(err, test.err) {
				t.Errorf("module %q, functions %v, error %v; want %q, %d, %v", driver.Module, driver.functions, err, test.module, test.functions, test.err)
			}
		})
	}
}

func TestDriverFunction(t *testing.T) {
	driver, err := Find(parse(t, driverSymbols, Symbols()))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := driver.Function("xennet_start_xmit"); err != nil || found.Address != 0xffffffffc0100000 {
		t.Errorf("xennet_start_xmit: %+v, error %v", found, err)
	}
	for name, message := range map[string]string{
		"xennet_tx_buf_gc": "xennet_tx_buf_gc: symbol is inlined or renamed in this kernel (what is left of it: xennet_tx_buf_gc.isra.0)",
		"xennet_xdp_xmit":  "xennet_xdp_xmit: symbol is inlined or renamed in this kernel",
	} {
		if _, err := driver.Function(name); !errors.Is(err, kernel.ErrSymbolMissing) || err.Error() != message {
			t.Errorf("error %q, want %q", err, message)
		}
	}
}

// TestAnyContextFreeBySymbol covers every generation by its symbols; the value is
// that of the running kernel, or an error where its types are of another generation.
func TestAnyContextFreeBySymbol(t *testing.T) {
	const older, newer = "ffffffff81000000 T __dev_kfree_skb_any\n", "ffffffff81000100 T dev_kfree_skb_any_reason\n"
	types := kernel.NewTypes()
	for _, test := range []struct{ name, symbols, function, enum, consumed string }{
		{"6.3 and older", older, "__dev_kfree_skb_any", "skb_free_reason", "SKB_REASON_CONSUMED"},
		{"6.4 and newer", newer, "dev_kfree_skb_any_reason", "skb_drop_reason", "SKB_CONSUMED"},
		{"both, as a distribution may have it", older + newer, "dev_kfree_skb_any_reason", "skb_drop_reason", "SKB_CONSUMED"},
		{"a module's own is not it", older + "ffffffffc0000000 t dev_kfree_skb_any_reason\t[other]\n", "__dev_kfree_skb_any", "skb_free_reason", "SKB_REASON_CONSUMED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want, wantErr := types.EnumValue(test.enum, test.consumed)
			free, err := FindAnyContextFree(parse(t, test.symbols, Symbols()), types)
			if wantErr != nil {
				if !errors.Is(err, kernel.ErrNoSuchType) || !strings.HasPrefix(err.Error(), test.function+": ") {
					t.Errorf("error %v, want %s and %v", err, test.function, wantErr)
				}
				return
			}
			if err != nil || free.Symbol.Name != test.function || free.Consumed != want {
				t.Errorf("%+v, error %v; want %s, %d", free, err, test.function, want)
			}
		})
	}
}

func TestAnyContextFreeMissing(t *testing.T) {
	_, err := FindAnyContextFree(parse(t, "ffffffff81000000 t __dev_kfree_skb_any.cold\n", Symbols()), kernel.NewTypes())
	want := "dev_kfree_skb_any_reason: symbol is inlined or renamed in this kernel; " +
		"__dev_kfree_skb_any: symbol is inlined or renamed in this kernel (what is left of it: __dev_kfree_skb_any.cold)"
	if !errors.Is(err, kernel.ErrSymbolMissing) || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// TestRunningKernelFree finds the real function: every kernel has one of them.
func TestRunningKernelFree(t *testing.T) {
	symbols, err := kernel.ReadSymbols(Symbols())
	if err != nil {
		t.Fatal(err)
	}
	free, err := FindAnyContextFree(symbols, kernel.NewTypes())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{"__dev_kfree_skb_any": 0, "dev_kfree_skb_any_reason": 1}
	if value, known := want[free.Symbol.Name]; !known || value != free.Consumed {
		t.Errorf("%s with consumed = %d", free.Symbol.Name, free.Consumed)
	}
}

func parse(t testing.TB, text string, want kernel.Wanted) *kernel.Symbols {
	t.Helper()
	symbols, err := kernel.ParseSymbols(strings.NewReader(text), want)
	if err != nil {
		t.Fatal(err)
	}
	return symbols
}
