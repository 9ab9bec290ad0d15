package kernel

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// helpers walks what the function calls in its own driver. A call of the
// linearizer there may serve another purpose, so it only makes the answer uncertain.
func (w *walk) helpers(ctx context.Context, entry Symbol) error {
	own := map[uint64]Symbol{}
	for _, symbol := range w.symbols.Select(Symbol.Text) {
		if symbol.Module == entry.Module && (symbol.Module != "" || strings.HasPrefix(symbol.Name, driverPrefix)) {
			own[symbol.Address] = symbol
		}
	}
	for progress := true; progress && w.found == "" && len(w.problems) == 0; {
		progress = false
		for _, address := range slices.Sorted(maps.Keys(w.leaves)) {
			start, known := w.functionAt(address)
			helper, is := own[start]
			if !known || !is || w.part(start) != nil {
				continue
			}
			progress = true
			if err := w.add(helper, w.leaves[address]+" calls "+helper.Name+", "); err != nil {
				w.problem("%v", err)
				return nil
			}
			if err := w.follow(ctx, start); err != nil {
				return err
			}
		}
	}
	w.doubt("which may not be meant for this packet")
	return nil
}

// doubt turns a call that was found into a problem.
func (w *walk) doubt(why string) {
	if w.found != "" {
		w.problem("%s, %s", w.found, why)
		w.found = ""
	}
}

// functionAt returns the start of the function that control enters at address,
// which may lie in the padding before it or behind its landing instruction.
func (w *walk) functionAt(address uint64) (uint64, bool) {
	if next, found := w.symbols.next(address - endbrBytes); found && next == address-endbrBytes {
		return next, true
	}
	next, found := w.symbols.next(address)
	return next, found && next-address <= maxPrologueBytes
}

// checkLeaves makes sure that control leaves the function to other functions
// only: an address that no symbol stands at may be a detour of a probe or of a
// patch, behind which the function goes on.
func (w *walk) checkLeaves() {
	for _, address := range slices.Sorted(maps.Keys(w.leaves)) {
		if w.probes[address] {
			w.problem("%s was replaced by a probe", w.leaves[address])
		} else if _, found := w.functionAt(address); !found {
			w.problem("%s goes to %#x, where no symbol is", w.leaves[address], address)
		}
	}
}

// sweep decodes what no path came to: code behind a static branch that is off, or
// a landing place of an exception. A call of the linearizer there makes the
// answer uncertain too.
func (w *walk) sweep(ctx context.Context, _ Symbol) error {
	w.checkLeaves()
	for i := 0; i < len(w.parts) && len(w.problems) == 0; i++ {
		if err := w.sweepPart(ctx, w.parts[i]); err != nil {
			return err
		}
	}
	w.doubt("but no path to there was found")
	return nil
}

func (w *walk) sweepPart(ctx context.Context, p *part) error {
	var before instruction
	for address := p.start; address < p.end && w.found == "" && len(w.problems) == 0; {
		inst, seen := w.seen[address]
		if !seen {
			if w.code.padded(ctx, p, address) {
				break
			}
			var err error
			if inst, err = w.step(ctx, p, address); err != nil {
				return w.stop(err)
			}
			w.unreached(ctx, p, address, inst, before)
		}
		before = inst
		address += uint64(inst.length)
	}
	w.checkLeaves()
	return ctx.Err()
}

// unreached looks at one instruction that no path came to. What stands before it
// tells whether a breakpoint is a barrier against straight-line speculation or
// hides an instruction.
func (w *walk) unreached(ctx context.Context, p *part, address uint64, inst, before instruction) {
	for inside := address + 1; inside < address+uint64(inst.length); inside++ {
		if _, seen := w.seen[inside]; seen {
			w.problem("code at %s is read in two ways", p.place(address))
			return
		}
	}
	if inst.flow == flowBreakpoint {
		switch before.flow {
		case flowJump, flowJumpIndirect, flowReturn, flowTrap, flowBreakpoint:
		default:
			w.problem("breakpoint or unknown byte at %s", p.place(address))
		}
		return
	}
	w.seen[address] = inst
	w.leave(ctx, p, address, inst)
}
