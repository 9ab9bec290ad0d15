package netfront

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"xentrace/internal/kernel"
)

// Flags is where the driver keeps two bools of struct netfront_info, in bytes from the start
// of struct net_device, which its private area follows.
type Flags struct {
	Broken uint32 // the device disabled itself
	Bounce uint32 // the backend is not trusted: every packet is copied
}

// privateBytes bounds struct netfront_info, which has 64 bytes (5.10 to 7.2).
const privateBytes = 256

// errNoFlags: the code has another shape than that of every known build.
var errNoFlags = errors.New("the code does not show the driver's flags")

// FlagsInCode reads from the machine code of the running transmit function where the flags
// are that it tests, for kernels without BTF of modules. private is where the driver's
// private area begins in struct net_device. They are the only bytes of that area that the
// function compares with 0, first broken, then bounce in the next byte. Anything else is
// an error: this never guesses.
func FlagsInCode(ctx context.Context, symbols *kernel.Symbols, reader kernel.CodeReader, private uint32) (Flags, error) {
	return flagsIn(ctx, kernel.RunningCode(symbols, reader), private)
}

func flagsIn(ctx context.Context, code *kernel.Code, private uint32) (Flags, error) {
	if code.Architecture != "amd64" {
		return Flags{}, fmt.Errorf("%w: code of %s is not searched", errNoFlags, code.Architecture)
	}
	if err := code.Symbols.Addresses(); err != nil {
		return Flags{}, err
	}
	entry, err := kernel.OneOf(code.Symbols.Functions(transmitFunction), transmitFunction)
	if err != nil {
		return Flags{}, err
	}
	bytes, err := code.Bytes(ctx, entry)
	if err != nil {
		return Flags{}, err
	}
	tested := testedBytes(bytes, private, private+privateBytes)
	if len(tested) != 2 || tested[1] != tested[0]+1 {
		return Flags{}, fmt.Errorf("%w: it compares %d bytes at %#x of the private area", errNoFlags, len(tested), tested)
	}
	return Flags{Broken: tested[0], Bounce: tested[1]}, nil
}

// testedBytes returns the offsets from low to below high at which amd64 code compares a byte
// with 0, each once, in the code's order: cmpb $0, disp32(register). It decodes no
// instructions: other bytes match with a chance of less than 1 in 2^40.
func testedBytes(code []byte, low, high uint32) []uint32 {
	const (
		compare  = 0x80 // with an immediate byte, if the register field is 7
		disp32   = 0xb8 // mode and register field of ModRM
		withSIB  = 4    // the base register follows
		noIndex  = 0x24
		disp     = 4
		modField = 0xf8
	)
	var found []uint32
	for at := 0; at+2+disp < len(code); at++ {
		if code[at] != compare || code[at+1]&modField != disp32 {
			continue
		}
		operand := at + 2
		if code[at+1]&7 == withSIB {
			if code[operand] != noIndex {
				continue
			}
			operand++
		}
		if operand+disp >= len(code) || code[operand+disp] != 0 {
			continue
		}
		offset := binary.LittleEndian.Uint32(code[operand:])
		if offset >= low && offset < high && !slices.Contains(found, offset) {
			found = append(found, offset)
		}
	}
	return found
}
