package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A flow is what an instruction does to the flow of control.
type flow uint8

const (
	flowOn           flow = iota // to the next instruction
	flowPadding                  // to the next instruction, without any effect
	flowCall                     // into target, and back
	flowCallIndirect             // into what a register or memory tells, and back
	flowBranch                   // to target or to the next instruction
	flowJump                     // to target
	flowJumpIndirect             // to what a register or memory tells
	flowReturn                   // out of the function
	flowTrap                     // a warning comes back from it, a bug does not
	flowBreakpoint               // hides another instruction, or is padding
)

// An instruction is as much of it as following the code needs.
type instruction struct {
	length int
	flow   flow
	target uint64 // of flowCall, flowBranch and flowJump
}

// A decoder decodes the first instruction of code, which lies at address.
type decoder func(code []byte, address uint64) (instruction, error)

const (
	maxInstructionBytes = 15      // x86's limit, the longest of all
	maxSteps            = 1 << 15 // instructions looked at in one walk; the whole driver has about 5000
	maxParts            = 128     // functions and parts followed; the driver has about 60
	maxStubHops         = 4
	maxStubInstructions = 4
	// maxPrologueBytes is what may lie between an address that is called and the
	// symbol: padding with call depth tracking, or a control flow check.
	maxPrologueBytes = 64
	endbrBytes       = 4 // direct calls may skip the landing instruction
)

// A part is one piece of code that is followed: a function, or what the compiler
// moved out of it.
type part struct {
	name       string
	start, end uint64
	reached    string // for a function that was called: by what
}

func (p *part) place(address uint64) string {
	return fmt.Sprintf("%s+%#x", p.name, address-p.start)
}

// A walk follows the code from one function on, and looks for calls of the
// linearizer.
type walk struct {
	symbols *Symbols
	machine machine
	code    *codeCache

	targetLow, targetHigh uint64
	returns               map[uint64]bool // return thunks
	indirect              map[uint64]bool // thunks of indirect calls and jumps
	probes                map[uint64]bool // pages that kprobes jump to
	functions             map[uint64]Symbol
	endless               map[uint64]bool // functions that do not come back

	parts    []*part
	seen     map[uint64]instruction
	leaves   map[uint64]string // where control leaves to, and from where
	problems []string          // what stands against saying that no call exists
	found    string
	steps    int
	calls    int
}

func newWalk(symbols *Symbols, reader CodeReader, machine machine) *walk {
	w := &walk{
		symbols:   symbols,
		machine:   machine,
		code:      &codeCache{reader: reader, chunks: map[uint64][]byte{}},
		returns:   map[uint64]bool{},
		indirect:  map[uint64]bool{},
		probes:    map[uint64]bool{},
		functions: map[uint64]Symbol{},
		endless:   map[uint64]bool{},
		seen:      map[uint64]instruction{},
		leaves:    map[uint64]string{},
	}
	for _, symbol := range symbols.Select(Symbol.Text) {
		switch {
		case strings.HasSuffix(symbol.Name, "_return_thunk"):
			w.returns[symbol.Address] = true
		case strings.HasPrefix(symbol.Name, "__x86_indirect_"):
			w.indirect[symbol.Address] = true
		case strings.HasPrefix(symbol.Name, "kprobe_"):
			w.probes[symbol.Address] = true
		case symbol.Name == stackSmashed:
			w.endless[symbol.Address] = true
		case followed(symbol):
			w.functions[symbol.Address] = symbol
		}
	}
	target := textOf(symbols.Lookup(linearizeFunction))[0].Address
	w.targetLow, w.targetHigh = target, target+endbrBytes
	for _, prefix := range []string{"__pfx_", "__cfi_"} {
		for _, symbol := range symbols.Lookup(prefix + linearizeFunction) {
			if symbol.Address < w.targetLow && target-symbol.Address <= maxPrologueBytes {
				w.targetLow = symbol.Address
			}
		}
	}
	return w
}

// from walks the function at entry and says what it does.
func (w *walk) from(ctx context.Context, entry Symbol) (Answer, error) {
	if err := w.add(entry, ""); err != nil {
		return Answer{Unknown, err.Error()}, nil
	}
	if err := w.follow(ctx, entry.Address); err != nil {
		return Answer{}, err
	}
	if w.found != "" {
		return Answer{Linearizes, w.found}, nil
	}
	instructions, calls := len(w.seen), w.calls
	for _, doubt := range []func(context.Context, Symbol) error{w.helpers, w.sweep} {
		if err := doubt(ctx, entry); err != nil {
			return Answer{}, err
		}
	}
	if len(w.problems) > 0 {
		return Answer{Unknown, w.problems[0]}, nil
	}
	return Answer{Drops, fmt.Sprintf("%s in %s, %d instructions with %d calls, never calls %s",
		entry.Name, entry.Where(), instructions, calls, linearizeFunction)}, nil
}

// add makes the function and its parts known, as ground to walk on.
func (w *walk) add(function Symbol, reached string) error {
	base, module := function.Base(), function.Module
	belongs := w.symbols.Select(func(s Symbol) bool {
		return s.Text() && s.Module == module && (s == function || s.Base() == base && s.Name != base)
	})
	if len(w.parts)+len(belongs) > maxParts {
		return fmt.Errorf("%s has more than %d parts", function.Name, maxParts)
	}
	for _, symbol := range belongs {
		if w.part(symbol.Address) != nil {
			continue
		}
		end, err := w.symbols.End(symbol)
		if err != nil {
			return err
		}
		w.parts = append(w.parts, &part{name: symbol.Name, start: symbol.Address, end: end, reached: reached})
	}
	return nil
}

func (w *walk) part(address uint64) *part {
	for _, p := range w.parts {
		if address >= p.start && address < p.end {
			return p
		}
	}
	return nil
}

func (w *walk) problem(format string, values ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, values...))
}

// follow walks every path from address until a call of the linearizer is found.
func (w *walk) follow(ctx context.Context, address uint64) error {
	pending := []uint64{address}
	for len(pending) > 0 && w.found == "" {
		last := len(pending) - 1
		next := pending[last]
		branches, err := w.path(ctx, next)
		if err != nil {
			return err
		}
		pending = append(pending[:last], branches...)
	}
	return nil
}

// path walks straight on from address until the flow ends or meets a known
// instruction, and returns where else it goes.
func (w *walk) path(ctx context.Context, address uint64) (branches []uint64, err error) {
	endless := false // the last instruction with an effect may not come back
	for w.found == "" {
		if _, seen := w.seen[address]; seen {
			break
		}
		p := w.part(address)
		inst, err := w.step(ctx, p, address)
		if err != nil {
			return nil, w.stop(err)
		}
		if inst.flow == flowBreakpoint {
			if !endless || !w.code.padded(ctx, p, address) {
				w.problem("breakpoint or unknown byte at %s", p.place(address))
			}
			return branches, nil
		}
		w.seen[address] = inst
		goesOn, branch := w.leave(ctx, p, address, inst)
		if branch != 0 {
			branches = append(branches, branch)
		}
		if !goesOn {
			return branches, nil
		}
		if inst.flow != flowPadding {
			endless = inst.flow == flowCall || inst.flow == flowCallIndirect || inst.flow == flowTrap
		}
		address += uint64(inst.length)
		if address >= p.end {
			if !endless {
				w.problem("code runs past the end of %s", p.name)
			}
			return branches, nil
		}
	}
	return branches, nil
}

// errWalk marks what ends a path but not the walk.
var errWalk = errors.New("code is not understood")

// stop turns what ends a path only into a problem, and returns what ends everything.
func (w *walk) stop(err error) error {
	if errors.Is(err, errWalk) {
		w.problem("%v", err)
		return nil
	}
	return err
}

// step decodes the instruction at address.
func (w *walk) step(ctx context.Context, p *part, address uint64) (instruction, error) {
	if w.steps++; w.steps > maxSteps {
		return instruction{}, fmt.Errorf("%w: more than %d instructions", errWalk, maxSteps)
	}
	code, err := w.code.at(ctx, p, address, maxInstructionBytes)
	if err != nil {
		return instruction{}, err
	}
	inst, err := w.machine.decode(code, address)
	if err != nil {
		return instruction{}, fmt.Errorf("%w: %s: %w", errWalk, p.place(address), err)
	}
	return inst, nil
}

// leave looks at where an instruction goes besides the next one: whether the next
// one follows, and an address to walk from later.
func (w *walk) leave(ctx context.Context, p *part, address uint64, inst instruction) (goesOn bool, branch uint64) {
	goesOn = inst.flow != flowJump && inst.flow != flowReturn && inst.flow != flowJumpIndirect && !w.endless[inst.target]
	switch inst.flow {
	case flowCall, flowBranch, flowJump:
	case flowJumpIndirect:
		w.problem("%s jumps to an address that is computed", p.place(address))
		return goesOn, 0
	default:
		return goesOn, 0
	}
	to := w.resolve(ctx, inst.target)
	// The first call of a function is that of ftrace, patched in by the kernel: it may
	// go to a trampoline that has no symbol. To that of a BPF program at the function's
	// return it may be a jump (from 7.0 on), and the function is called from there.
	fentry := address-p.start <= endbrBytes && (inst.flow == flowCall || inst.flow == flowJump && to.elsewhere)
	if inst.flow == flowCall && !fentry {
		w.calls++
	}
	goesOn = goesOn || fentry
	switch {
	case to.linearizer:
		verb := "calls"
		if inst.flow != flowCall {
			verb = "jumps to"
		}
		w.found = fmt.Sprintf("%s%s %s %s%s", p.reached, p.place(address), verb, to.through, linearizeFunction)
	case to.function != nil:
		reached := fmt.Sprintf("%s%s calls %s, ", p.reached, p.place(address), to.function.Name)
		if err := w.add(*to.function, reached); err != nil {
			w.problem("%v", err)
			return goesOn, 0
		}
		branch = to.address
	case to.known:
		branch = to.address
	case to.elsewhere && !fentry:
		w.leaves[to.address] = p.place(address)
	}
	return goesOn, branch
}
