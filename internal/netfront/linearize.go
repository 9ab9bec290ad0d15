package netfront

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"xentrace/internal/kernel"
)

const (
	transmitFunction  = "xennet_start_xmit"
	driverPrefix      = "xennet_"          // of most of the driver's functions
	linearizeFunction = "__pskb_pull_tail" // what skb_linearize is compiled to, 3.x to 7.x
	collectFunction   = "xennet_tx_buf_gc" // handles TX responses
	maxFunctions      = 128                // analysed for one answer; the driver has about 60

	// Module is what the driver is called where it is a module.
	Module = "xen_netfront"
)

// A Linearization is what a driver does with a packet over the slot limit.
type Linearization uint8

const (
	// Unknown means that the code did not show it; the evidence has the reason.
	Unknown Linearization = iota
	// Linearizes means that the driver copies the packet into one buffer and sends it
	// ("Fix handling packets on compound pages with skb_linearize", 3.17).
	Linearizes
	// Drops means that the transmit function never calls the linearizer.
	Drops
)

// String is one word.
func (l Linearization) String() string { return [...]string{"unknown", "linearizes", "drops"}[l] }

// An Answer is a Linearization with the place in the code that shows it, or the reason why
// it is unknown.
type Answer struct {
	Value    Linearization
	Evidence string

	// LeavesResponses means that the transmit function does not handle TX responses: the
	// driver has "xen/netfront: Fix TX response spurious interrupts" (6.17, 6.12.43, 6.1.149).
	// False also where the code does not show it.
	LeavesResponses bool
}

// LinearizeSymbols selects what [DriverLinearizes] needs.
func LinearizeSymbols() kernel.Wanted {
	want := kernel.Wanted{
		Names:    []string{transmitFunction, linearizeFunction, "kprobe_optinsn_page", "kprobe_insn_page"},
		Contains: []string{"linearize"}, // an outlined skb_linearize
		Prefixes: []string{driverPrefix},
		Modules:  []string{Module},
	}
	want.Names = append(append(want.Names, droppingFrees...), "consume_skb", "sk_skb_reason_drop")
	for _, free := range anyContextFrees {
		want.Names = append(want.Names, free.function)
	}
	return want
}

// DriverLinearizes reads from the machine code of the running driver whether it linearizes:
// whether xennet_start_xmit calls __pskb_pull_tail. It never guesses. An error is returned
// only when the context ends.
func DriverLinearizes(ctx context.Context, symbols *kernel.Symbols, reader kernel.CodeReader) (Answer, error) {
	return linearizes(ctx, kernel.RunningCode(symbols, reader))
}

func linearizes(ctx context.Context, code *kernel.Code) (Answer, error) {
	if err := code.Symbols.Addresses(); err != nil {
		return Answer{Evidence: err.Error()}, nil
	}
	entries := code.Symbols.Functions(transmitFunction)
	if len(entries) == 0 {
		return Answer{Evidence: fmt.Sprintf("%s: %v, or the driver is not loaded", transmitFunction, kernel.ErrSymbolMissing)}, nil
	}
	if code.Relocated == nil && len(code.Symbols.Functions(linearizeFunction)) == 0 {
		return Answer{Evidence: fmt.Sprintf("%s: %v", linearizeFunction, kernel.ErrSymbolMissing)}, nil
	}
	var answers []Answer
	for _, entry := range entries {
		answer, err := answerOf(ctx, code, entry)
		if ctx.Err() != nil {
			return Answer{}, ctx.Err()
		}
		if err != nil {
			answer = Answer{Evidence: err.Error()}
		}
		answers = append(answers, answer)
	}
	return agree(entries, answers), nil
}

// answerOf looks at the calls of one transmit function, and of what it calls in its driver:
// the linearizer called there may serve another purpose, so the answer is unknown then. That
// a free of the driver's drop path is found shows that the code was read rightly.
func answerOf(ctx context.Context, code *kernel.Code, entry kernel.Symbol) (Answer, error) {
	type function struct {
		kernel.Symbol
		through string // the calls that lead there, for the evidence
		own     bool   // the transmit function, or an outlined skb_linearize of it
	}
	wanted, calls, frees, leaves := wantedCalls(code, entry), 0, 0, false
	seen := map[kernel.Symbol]bool{entry: true}
	for pending := []function{{entry, "", true}}; len(pending) > 0; pending = pending[1:] {
		f := pending[0]
		found, err := code.Calls(ctx, f.Symbol, wanted)
		if err != nil {
			return Answer{}, err
		}
		if f.through == "" {
			leaves = leavesResponses(wanted, found)
		}
		for _, call := range found {
			evidence := f.through + call.String()
			switch {
			case call.To.Name == linearizeFunction && f.own:
				return Answer{Linearizes, evidence, leaves}, nil
			case call.To.Name == linearizeFunction:
				return Answer{Evidence: evidence + ", which may not be meant for this packet"}, nil
			case isFree(call.To.Name) && f.own:
				frees++
			}
			if f.own {
				calls++
			}
			if seen[call.To] || !follows(call.To, entry) {
				continue
			}
			if seen[call.To] = true; len(seen) > maxFunctions {
				return Answer{Evidence: fmt.Sprintf("%s leads to more than %d functions", entry.Name, maxFunctions)}, nil
			}
			pending = append(pending, function{call.To, evidence + ", ", f.own && strings.Contains(call.To.Name, "linearize")})
		}
	}
	if frees == 0 {
		return Answer{Evidence: fmt.Sprintf("%s in %s frees no packet as far as its code shows: it is not what xen-netfront has there", entry.Name, entry.Where())}, nil
	}
	return Answer{Drops, fmt.Sprintf("%s in %s never calls %s; it calls %d functions of the driver and of freeing packets", entry.Name, entry.Where(), linearizeFunction, calls), leaves}, nil
}

// leavesResponses reports whether the driver has a function that handles TX responses, and its
// transmit function, which makes these calls, does not call it.
func leavesResponses(functions []kernel.Symbol, made []kernel.Call) bool {
	collects := func(s kernel.Symbol) bool { return s.Name == collectFunction }
	return slices.ContainsFunc(functions, collects) && !slices.ContainsFunc(made, func(c kernel.Call) bool { return collects(c.To) })
}

func wantedCalls(code *kernel.Code, entry kernel.Symbol) []kernel.Symbol {
	return code.Symbols.Select(func(s kernel.Symbol) bool {
		return s.Text() && (s.Name == linearizeFunction || isFree(s.Name) || follows(s, entry))
	})
}

// follows reports whether a function is looked into: one of the same driver, or an outlined
// skb_linearize. Padding in front of functions and parts of the transmit function are none.
func follows(s, entry kernel.Symbol) bool {
	if strings.HasPrefix(s.Name, "__pfx_") || strings.HasPrefix(s.Name, "__cfi_") || s.Base() == entry.Base() {
		return false
	}
	return s.Module == entry.Module && (s.Module != "" || strings.HasPrefix(s.Name, driverPrefix)) || strings.Contains(s.Name, "linearize")
}

// isFree reports whether a function is one by which the driver frees packets it does not
// send: before 3.9 that is consume_skb.
func isFree(name string) bool {
	for _, free := range anyContextFrees {
		if name == free.function {
			return true
		}
	}
	return name == "consume_skb" || name == "sk_skb_reason_drop" || slices.Contains(droppingFrees, name)
}

// agree merges the answers of several copies of the driver: one in vmlinux and one in a
// module, or one in a live patch.
func agree(entries []kernel.Symbol, answers []Answer) Answer {
	for i, answer := range answers {
		if answer.Value == answers[0].Value {
			answers[0].LeavesResponses = answers[0].LeavesResponses && answer.LeavesResponses
			continue
		}
		return Answer{Evidence: fmt.Sprintf("%s exists more than once: in %s it %s (%s), in %s it %s (%s)", transmitFunction,
			entries[0].Where(), answers[0].Value, answers[0].Evidence, entries[i].Where(), answer.Value, answer.Evidence)}
	}
	return answers[0]
}
