package netfront

import (
	"testing"

	"xentrace/test/machinecode"
)

const (
	kfreeSkb   = 0xffffffff81006000
	consumeSkb = 0xffffffff81007000
	anyFree    = 0xffffffff81008000
)

func TestFreesDroppedAsConsumed(t *testing.T) {
	for _, test := range []struct {
		name string
		free *machinecode.Listing
		want bool
	}{
		{"both ends are consume_skb", machinecode.Function("__dev_kfree_skb_any", "", anyFree).Nop5().Push().Call(consumeSkb).Jmp(consumeSkb), true},
		{"a dropped packet goes to kfree_skb_reason", machinecode.Function("__dev_kfree_skb_any", "", anyFree).Nop5().Push().Cmp18().Ja(anyFree + 0x30).Jmp(consumeSkb).To(0x30).Jmp(kfreeSkb), false},
		{"the newer function", machinecode.Function("dev_kfree_skb_any_reason", "", anyFree).Nop5().Jmp(consumeSkb), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := machinecode.Kernel{
				test.free,
				machinecode.Function("kfree_skb_reason", "", kfreeSkb).Nop5().Ret(),
				machinecode.Function("consume_skb", "", consumeSkb).Nop5().Ret(),
				machinecode.Function("after", "", anyFree+0x100).Ret(),
			}
			symbols := parse(t, fake.Kallsyms(), Symbols())
			names := []string{"__dev_kfree_skb_any", "dev_kfree_skb_any_reason"}
			var free AnyContextFree
			for _, name := range names {
				for _, symbol := range symbols.Lookup(name) {
					free.Symbol = symbol
				}
			}
			got, err := FreesDroppedAsConsumed(t.Context(), symbols, free, fake)
			if err != nil || got != test.want {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestFreesDroppedAsConsumedWithoutSymbol(t *testing.T) {
	fake := machinecode.Kernel{machinecode.Function("__dev_kfree_skb_any", "", anyFree).Nop5().Ret(), machinecode.Function("after", "", anyFree+0x100).Ret()}
	symbols := parse(t, fake.Kallsyms(), Symbols())
	_, err := FreesDroppedAsConsumed(t.Context(), symbols, AnyContextFree{Symbol: symbols.Lookup("__dev_kfree_skb_any")[0]}, fake)
	if err == nil {
		t.Error("no error without kfree_skb among the symbols")
	}
}
