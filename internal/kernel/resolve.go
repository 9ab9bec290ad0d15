package kernel

import (
	"context"
	"fmt"
)

// A destination is what an address that control goes to turns out to be.
type destination struct {
	linearizer bool
	through    string  // the stub that led to the linearizer
	known      bool    // inside the parts that are walked
	function   *Symbol // one to be walked as well
	elsewhere  bool    // another function, or so it seems: see checkLeaves
	address    uint64  // of what was found there, behind the module loader's code
}

// resolve says what lies at address. Stubs that do nothing but jump on are
// followed a few hops.
func (w *walk) resolve(ctx context.Context, address uint64) destination {
	through := ""
	address = w.behindVeneer(ctx, address)
	from := address
	for hop := 0; ; hop++ {
		if address >= w.targetLow && address <= w.targetHigh {
			return destination{linearizer: true, through: through}
		}
		if w.part(address) != nil {
			return destination{known: true, address: address}
		}
		if w.returns[address] || w.indirect[address] {
			return destination{}
		}
		for _, start := range []uint64{address, address - endbrBytes} {
			if function, is := w.functions[start]; is {
				return destination{function: &function, address: start}
			}
		}
		next, is := w.stub(ctx, address)
		if !is || hop == maxStubHops {
			return destination{elsewhere: true, address: from}
		}
		through = fmt.Sprintf("a stub at %#x that jumps to ", address)
		address = next
	}
}

// behindVeneer returns where the code at address goes on if it is the module
// loader's, else address itself.
func (w *walk) behindVeneer(ctx context.Context, address uint64) uint64 {
	if w.machine.veneer == nil || w.part(address) != nil {
		return address
	}
	page := address &^ 4095
	code, err := w.code.at(ctx, &part{start: page, end: page + 4096}, address, maxVeneerBytes)
	if err != nil {
		return address
	}
	if target, is := w.machine.veneer(code, address); is {
		return target
	}
	return address
}

// stub returns where the code at address jumps to if it does nothing else. Code
// that cannot be read is no stub.
func (w *walk) stub(ctx context.Context, address uint64) (uint64, bool) {
	page := address &^ 4095
	around := &part{start: page, end: page + 4096}
	for range maxStubInstructions {
		code, err := w.code.at(ctx, around, address, maxInstructionBytes)
		if err != nil {
			return 0, false
		}
		inst, err := w.machine.decode(code, address)
		switch {
		case err != nil:
			return 0, false
		case inst.flow == flowJump:
			return inst.target, true
		case inst.flow != flowPadding:
			return 0, false
		}
		if address += uint64(inst.length); address >= around.end {
			return 0, false
		}
	}
	return 0, false
}
