package kernel

import (
	"context"
	"fmt"
	"runtime"
	"strings"
)

const (
	transmitFunction  = "xennet_start_xmit"
	driverPrefix      = "xennet_" // of most of the driver's functions
	driverModule      = "xen_netfront"
	linearizeFunction = "__pskb_pull_tail" // what skb_linearize comes down to, 3.x to 7.x
	stackSmashed      = "__stack_chk_fail" // never comes back; anything may stand behind a call of it
)

// A CodeReader reads the machine code of a kernel, running or in a file.
type CodeReader interface {
	// ReadCode fills buf with the code at address. It is asked for at most
	// 512 bytes that lie within one page.
	ReadCode(ctx context.Context, address uint64, buf []byte) error
}

// A Linearization says what a driver does with a packet of more slots than Xen takes.
type Linearization uint8

const (
	// Unknown means that the code did not show it; the evidence says why.
	Unknown Linearization = iota
	// Linearizes means that the driver copies the packet into one piece and sends it
	// ("Fix handling packets on compound pages with skb_linearize", 2014).
	Linearizes
	// Drops means that the driver's transmit function has no call of the linearizer at all.
	Drops
)

// String is one word.
func (l Linearization) String() string {
	switch l {
	case Linearizes:
		return "linearizes"
	case Drops:
		return "drops"
	default:
		return "unknown"
	}
}

// An Answer is a Linearization with the place in the code that shows it, or the
// reason why it is unknown.
type Answer struct {
	Value    Linearization
	Evidence string
}

// LinearizeSymbols selects what [DriverLinearizes] needs to find its way.
func LinearizeSymbols() Wanted {
	return Wanted{
		Names: []string{transmitFunction, linearizeFunction, stackSmashed, "kprobe_optinsn_page", "kprobe_insn_page"},
		// An outlined skb_linearize; thunks (__x86_return_thunk and what replaces it
		// on some processors, __x86_indirect_thunk_rax and the like).
		Contains: []string{"linearize", "_return_thunk"},
		Prefixes: []string{"__x86_indirect_", driverPrefix},
		Modules:  []string{driverModule},
	}
}

// DriverLinearizes reads from the machine code of the running driver whether it
// linearizes packets of too many slots: whether a path through
// xennet_start_xmit comes to a call of __pskb_pull_tail. It never guesses. An
// error is returned only when the context ends.
func DriverLinearizes(ctx context.Context, symbols *Symbols, reader CodeReader) (Answer, error) {
	return driverLinearizes(ctx, runtime.GOARCH, symbols, reader)
}

func driverLinearizes(ctx context.Context, architecture string, symbols *Symbols, reader CodeReader) (Answer, error) {
	machine, err := machineFor(architecture)
	if err != nil {
		return Answer{Unknown, err.Error()}, nil
	}
	if err := symbols.Addresses(); err != nil {
		return Answer{Unknown, err.Error()}, nil
	}
	entries := textOf(symbols.Lookup(transmitFunction))
	if len(entries) == 0 {
		return Answer{Unknown, fmt.Sprintf("%s: %v, or the driver is not loaded", transmitFunction, ErrSymbolMissing)}, nil
	}
	if len(textOf(symbols.Lookup(linearizeFunction))) == 0 {
		return Answer{Unknown, fmt.Sprintf("%s: %v", linearizeFunction, ErrSymbolMissing)}, nil
	}
	var answers []Answer
	for _, entry := range entries {
		answer, err := newWalk(symbols, reader, machine).from(ctx, entry)
		if err != nil {
			return Answer{}, err
		}
		answers = append(answers, answer)
	}
	return agree(entries, answers), nil
}

// agree merges what several copies of the driver say: one in vmlinux and one in a
// module, or one in a live patch. Which of them serves a device is not asked.
func agree(entries []Symbol, answers []Answer) Answer {
	for i, answer := range answers {
		if answer.Value == answers[0].Value {
			continue
		}
		return Answer{Unknown, fmt.Sprintf("%s is there more than once: in %s it is %s (%s), in %s it is %s (%s)", transmitFunction,
			entries[0].Where(), answers[0].Value, answers[0].Evidence, entries[i].Where(), answer.Value, answer.Evidence)}
	}
	return answers[0]
}

// machineFor returns what the code of an architecture, in Go's name of it, is read
// with.
func machineFor(architecture string) (machine, error) {
	for _, machine := range machines() {
		if machine.architecture == architecture {
			return machine, nil
		}
	}
	return machine{}, fmt.Errorf("machine code of %s is not read", architecture)
}

func textOf(symbols []Symbol) []Symbol {
	var text []Symbol
	for _, symbol := range symbols {
		if symbol.Text() {
			text = append(text, symbol)
		}
	}
	return text
}

// followed reports whether a function that the driver calls is looked into.
func followed(symbol Symbol) bool {
	return symbol.Text() && strings.Contains(symbol.Name, "linearize")
}
