package kernel

import (
	"errors"
	"reflect"
	"testing"
)

const (
	single = 0xffffffff81006000
	list   = 0xffffffff81007000
)

// The function for lists is needed only where it frees the packets itself.
func TestFindDropFunctions(t *testing.T) {
	code := func(name string, address uint64) *listing { return function(name, "", address).nop5() }
	for _, test := range []struct {
		name   string
		kernel fakeKernel
		want   []DropFunction
	}{
		{"5.10: the list's calls the other", fakeKernel{code("kfree_skb", single).ret(), code("kfree_skb_list", list).push().call(single).ret()},
			[]DropFunction{{Name: "kfree_skb"}}},
		{"6.1: the same with reasons", fakeKernel{code("kfree_skb_reason", single).ret(), code("kfree_skb_list_reason", list).push().call(single).ret()},
			[]DropFunction{{Name: "kfree_skb_reason"}}},
		{"6.4: the list's frees by itself", fakeKernel{code("kfree_skb_reason", single).ret(), code("kfree_skb_list_reason", list).push().ret()},
			[]DropFunction{{Name: "kfree_skb_reason"}, {Name: "kfree_skb_list_reason", List: true}}},
		{"6.12: the packet is the second argument", fakeKernel{code("sk_skb_reason_drop", single).ret(), code("kfree_skb_list_reason", list).push().ret()},
			[]DropFunction{{Name: "sk_skb_reason_drop", Argument: 1}, {Name: "kfree_skb_list_reason", List: true}}},
		{"no function for lists", fakeKernel{code("kfree_skb", single).ret()}, []DropFunction{{Name: "kfree_skb"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			kernel := append(test.kernel, function("after", "", list+0x100).ret())
			got, err := FindDropFunctions(t.Context(), kernel.symbols(t), kernel)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
	kernel := fakeKernel{function("after", "", list).ret()}
	if _, err := FindDropFunctions(t.Context(), kernel.symbols(t), kernel); !errors.Is(err, ErrSymbolMissing) {
		t.Errorf("error %v of a kernel without any", err)
	}
}

func TestCompletion(t *testing.T) {
	kernel := fakeKernel{function("net_tx_action", "", single).ret()}
	if got, err := Completion(kernel.symbols(t)); err != nil || got != single {
		t.Errorf("got %#x, %v, want %#x", got, err, uint64(single))
	}
	kernel = fakeKernel{function("after", "", single).ret()}
	if _, err := Completion(kernel.symbols(t)); !errors.Is(err, ErrSymbolMissing) {
		t.Errorf("error %v where it is inlined", err)
	}
}
