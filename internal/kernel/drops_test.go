package kernel

import (
	"errors"
	"reflect"
	"testing"

	"xentrace/test/machinecode"
)

const (
	single = 0xffffffff81006000
	list   = 0xffffffff81007000
)

// The function for lists is needed only where it frees the packets itself.
func TestFindDropFunctions(t *testing.T) {
	code := func(name string, address uint64) *machinecode.Listing {
		return machinecode.Function(name, "", address).Nop5()
	}
	for _, test := range []struct {
		name   string
		kernel machinecode.Kernel
		want   []DropFunction
	}{
		{"5.10: the list's calls the other", machinecode.Kernel{code("kfree_skb", single).Ret(), code("kfree_skb_list", list).Push().Call(single).Ret()},
			[]DropFunction{{Name: "kfree_skb"}}},
		{"6.1: the same with reasons", machinecode.Kernel{code("kfree_skb_reason", single).Ret(), code("kfree_skb_list_reason", list).Push().Call(single).Ret()},
			[]DropFunction{{Name: "kfree_skb_reason"}}},
		{"6.4: the list's frees by itself", machinecode.Kernel{code("kfree_skb_reason", single).Ret(), code("kfree_skb_list_reason", list).Push().Ret()},
			[]DropFunction{{Name: "kfree_skb_reason"}, {Name: "kfree_skb_list_reason", List: true}}},
		{"6.12: the packet is the second argument", machinecode.Kernel{code("sk_skb_reason_drop", single).Ret(), code("kfree_skb_list_reason", list).Push().Ret()},
			[]DropFunction{{Name: "sk_skb_reason_drop", Argument: 1}, {Name: "kfree_skb_list_reason", List: true}}},
		{"no function for lists", machinecode.Kernel{code("kfree_skb", single).Ret()}, []DropFunction{{Name: "kfree_skb"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			kernel := append(test.kernel, machinecode.Function("after", "", list+0x100).Ret())
			got, err := FindDropFunctions(t.Context(), mustParse(t, kernel.Kallsyms(), DropSymbols()), kernel)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
	kernel := machinecode.Kernel{machinecode.Function("after", "", list).Ret()}
	if _, err := FindDropFunctions(t.Context(), mustParse(t, kernel.Kallsyms(), DropSymbols()), kernel); !errors.Is(err, ErrSymbolMissing) {
		t.Errorf("error %v of a kernel without any", err)
	}
}

func TestCompletion(t *testing.T) {
	kernel := machinecode.Kernel{machinecode.Function("net_tx_action", "", single).Ret()}
	if got, err := Completion(mustParse(t, kernel.Kallsyms(), DropSymbols())); err != nil || got != single {
		t.Errorf("got %#x, %v, want %#x", got, err, uint64(single))
	}
	kernel = machinecode.Kernel{machinecode.Function("after", "", single).Ret()}
	if _, err := Completion(mustParse(t, kernel.Kallsyms(), DropSymbols())); !errors.Is(err, ErrSymbolMissing) {
		t.Errorf("error %v where it is inlined", err)
	}
}
