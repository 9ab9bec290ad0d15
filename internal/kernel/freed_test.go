package kernel

import "testing"

const (
	kfreeSkb   = 0xffffffff81006000
	consumeSkb = 0xffffffff81007000
	anyFree    = 0xffffffff81008000
)

func TestFreesDroppedAsConsumed(t *testing.T) {
	for _, test := range []struct {
		name string
		free *listing
		want bool
	}{
		{"both ends are consume_skb", function("__dev_kfree_skb_any", "", anyFree).nop5().push().call(consumeSkb).jmp(consumeSkb), true},
		{"a dropped packet goes to kfree_skb_reason", function("__dev_kfree_skb_any", "", anyFree).nop5().push().cmp18().ja(anyFree + 0x30).jmp(consumeSkb).to(0x30).jmp(kfreeSkb), false},
		{"the newer function", function("dev_kfree_skb_any_reason", "", anyFree).nop5().jmp(consumeSkb), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			kernel := fakeKernel{
				test.free,
				function("kfree_skb_reason", "", kfreeSkb).nop5().ret(),
				function("consume_skb", "", consumeSkb).nop5().ret(),
				function("after", "", anyFree+0x100).ret(),
			}
			symbols := kernel.symbols(t)
			names := []string{"__dev_kfree_skb_any", "dev_kfree_skb_any_reason"}
			var free AnyContextFree
			for _, name := range names {
				for _, symbol := range symbols.Lookup(name) {
					free.Symbol = symbol
				}
			}
			got, err := FreesDroppedAsConsumed(t.Context(), symbols, free, kernel)
			if err != nil || got != test.want {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestFreesDroppedAsConsumedWithoutSymbol(t *testing.T) {
	kernel := fakeKernel{function("__dev_kfree_skb_any", "", anyFree).nop5().ret(), function("after", "", anyFree+0x100).ret()}
	symbols := kernel.symbols(t)
	_, err := FreesDroppedAsConsumed(t.Context(), symbols, AnyContextFree{Symbol: symbols.Lookup("__dev_kfree_skb_any")[0]}, kernel)
	if err == nil {
		t.Error("no error without kfree_skb among the symbols")
	}
}
