package expression

import (
	"slices"

	"golang.org/x/net/bpf"
)

// A value of arithmetic is computed into register A.
type (
	constant uint32
	length   struct{}
	minus    struct{ of any }
	binary2  struct {
		op          bpf.ALUOp
		left, right any
	}
	// bytes are of a packet: at base plus index, behind an IPv4 header whose length is read
	// from shift where that is not 0.
	bytes struct {
		base, shift int
		index       any
		size        int
	}
)

var operators = []map[string]bpf.ALUOp{
	{"|": bpf.ALUOpOr}, {"&": bpf.ALUOpAnd}, {"<<": bpf.ALUOpShiftLeft, ">>": bpf.ALUOpShiftRight},
	{"+": bpf.ALUOpAdd, "-": bpf.ALUOpSub}, {"*": bpf.ALUOpMul, "/": bpf.ALUOpDiv},
}

// alone are operators that libpcap gives no precedence.
var alone = map[string]bpf.ALUOp{"%": bpf.ALUOpMod, "^": bpf.ALUOpXor}

var relations = map[string]bpf.JumpTest{
	"=": bpf.JumpEqual, "==": bpf.JumpEqual, "!=": bpf.JumpNotEqual, ">": bpf.JumpGreaterThan, ">=": bpf.JumpGreaterOrEqual,
	"<": bpf.JumpLessThan, "<=": bpf.JumpLessOrEqual,
}

// arithmeticAhead reports whether a relation begins here; a parenthesis may begin one.
func (p *parser) arithmeticAhead() bool {
	t, after := p.peek(), p.after()
	switch t.kind {
	case symbol:
		return t.text == "-"
	case number:
		return after.kind == symbol && after.text != ")" && after.text != "!" && after.text != "&&" && after.text != "||"
	case word:
		_, isConstant := constants[t.text]
		_, isProtocol := protocols[t.text]
		return isConstant || t.text == "len" || t.text == "length" || isProtocol && after.text == "["
	}
	return false
}

// relation reads two values and what compares them. What the bytes in them belong to is
// tested first; as in libpcap, not of bytes to the right of an arithmetic operator.
func (p *parser) relation() (node, *qualifiers, error) {
	var guards allOf
	left, err := p.arithmetic(&guards)
	if err != nil {
		return nil, nil, err
	}
	t := p.peek()
	cond, ok := relations[t.text]
	if !ok {
		return nil, nil, fault(t, "want a comparison here: = != < > <= >=")
	}
	p.take()
	right, err := p.arithmetic(&guards)
	if err != nil {
		return nil, nil, err
	}
	c := &computation{}
	result := test{cond: cond}
	if value, ok := right.(constant); ok {
		c.value(left, 0)
		result.value = uint32(value)
	} else {
		c.pair(left, right, 0)
		result.withX = true
	}
	if c.tooDeep {
		return nil, nil, fault(t, "the arithmetic is too deep; write it with fewer parentheses")
	}
	result.load = c.code
	return append(guards, result), nil, nil
}

// arithmetic reads a value with its operators.
func (p *parser) arithmetic(guards *allOf) (any, error) {
	taken := 0
	left, err := p.operation(guards, 0, &taken)
	if err != nil {
		return nil, err
	}
	t := p.peek()
	op, ok := alone[t.text]
	if !ok {
		return left, nil
	}
	if taken > 0 {
		return nil, fault(t, "%s has no precedence; write parentheses around it and its operands", t.text)
	}
	p.take()
	right, err := p.factor(&allOf{})
	if err != nil {
		return nil, err
	}
	if more := p.peek(); p.operatorAhead(more) {
		return nil, fault(more, "%s before it has no precedence; write parentheses around that and its operands", t.text)
	}
	return p.combine(t, op, left, right)
}

func (p *parser) operatorAhead(t token) bool {
	_, is := alone[t.text]
	return t.kind == symbol && (is || slices.ContainsFunc(operators, func(level map[string]bpf.ALUOp) bool { _, is := level[t.text]; return is }))
}

// operation reads operators of a level and above it, and counts them.
func (p *parser) operation(guards *allOf, level int, taken *int) (any, error) {
	if level == len(operators) {
		return p.factor(guards)
	}
	left, err := p.operation(guards, level+1, taken)
	for err == nil {
		t := p.peek()
		op, ok := operators[level][t.text]
		if !ok || t.kind != symbol {
			return left, nil
		}
		p.take()
		*taken++
		var right any
		if right, err = p.operation(&allOf{}, level+1, taken); err == nil {
			left, err = p.combine(t, op, left, right)
		}
	}
	return nil, err
}

func (p *parser) combine(t token, op bpf.ALUOp, left, right any) (any, error) {
	if value, ok := right.(constant); ok {
		switch {
		case value == 0 && (op == bpf.ALUOpDiv || op == bpf.ALUOpMod):
			return nil, fault(t, "division by zero")
		case value > 31 && (op == bpf.ALUOpShiftLeft || op == bpf.ALUOpShiftRight):
			return nil, fault(t, "shift by more than 31 bits")
		}
	}
	return binary2{op, left, right}, nil
}

// factor reads a number, the length, bytes, or one of these in parentheses or negated.
func (p *parser) factor(guards *allOf) (any, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	t := p.take()
	switch {
	case t.kind == number:
		return constant(t.value), nil
	case t.text == "len" || t.text == "length":
		return length{}, nil
	case t.kind == symbol && t.text == "-":
		of, err := p.factor(guards)
		return minus{of}, err
	case t.kind == symbol && t.text == "(":
		inner, err := p.arithmetic(guards)
		if err == nil {
			err = p.expect(")")
		}
		return inner, err
	}
	if value, ok := constants[t.text]; ok && t.kind == word {
		return constant(value), nil
	}
	if _, ok := protocols[t.text]; ok && t.kind == word {
		return p.bytes(t, guards)
	}
	return nil, fault(t, "want a number, len, or bytes such as tcp[13] here")
}

// bytes reads what follows a protocol: [offset] or [offset:size].
func (p *parser) bytes(t token, guards *allOf) (any, error) {
	if err := p.expect("["); err != nil {
		return nil, err
	}
	index, err := p.arithmetic(guards)
	if err != nil {
		return nil, err
	}
	b := bytes{base: p.net, index: index, size: 1}
	if at, ok := index.(constant); ok && at > 65535 {
		return nil, fault(t, "offset %d: must be at most 65535", at)
	}
	if p.accept(":") {
		size := p.take()
		if size.kind != number || size.value != 1 && size.value != 2 && size.value != 4 {
			return nil, fault(size, "not a size: 1, 2 or 4 bytes")
		}
		b.size = int(size.value)
	}
	if err := p.expect("]"); err != nil {
		return nil, err
	}
	p.require(t.text + "[...]")
	proto := protocols[t.text]
	switch {
	case t.text == "ether" || t.text == "link":
		b.base = 0
	case proto.etherType != 0:
		*guards = append(*guards, p.etherType(proto.etherType))
	case t.text == "icmp6":
		*guards = append(*guards, p.above(proto))
		b.base += 40
	case proto.over4 && t.text != "ah" && t.text != "esp":
		four := proto
		four.over6 = false // of IPv6 the transport header is not looked for, as in libpcap
		*guards = append(*guards, p.above(four), p.firstFragment())
		b.shift = p.net
	default:
		return nil, fault(t, "its bytes cannot be addressed; write ip[OFFSET] or ip6[OFFSET]")
	}
	return b, nil
}

// A computation is code that leaves a value in register A.
type computation struct {
	code    []bpf.Instruction
	tooDeep bool
}

func (c *computation) emit(instructions ...bpf.Instruction) {
	c.code = append(c.code, instructions...)
}

const scratchWords = 16

// keep stores A in a word of scratch memory.
func (c *computation) keep(word int) {
	if word >= scratchWords {
		c.tooDeep = true
		word = 0
	}
	c.emit(bpf.StoreScratch{Src: bpf.RegA, N: word})
}

func (c *computation) recall(word int) {
	c.emit(bpf.LoadScratch{Dst: bpf.RegA, N: min(word, scratchWords-1)})
}

// value computes v. Scratch words from free on may be used.
func (c *computation) value(v any, free int) {
	switch v := v.(type) {
	case constant:
		c.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(v)})
	case length:
		c.emit(load(-prefix, 4))
	case minus:
		c.value(v.of, free)
		c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: 1<<32 - 1}) // the machine has no negation
	case binary2:
		if right, ok := v.right.(constant); ok {
			c.value(v.left, free)
			c.emit(bpf.ALUOpConstant{Op: v.op, Val: uint32(right)})
			return
		}
		c.pair(v.left, v.right, free)
		c.emit(bpf.ALUOpX{Op: v.op})
	case bytes:
		c.bytes(v, free)
	}
}

// pair computes left into A and right into X.
func (c *computation) pair(left, right any, free int) {
	c.value(left, free)
	c.keep(free)
	c.value(right, free+1)
	c.emit(bpf.TAX{})
	c.recall(free)
}

func (c *computation) bytes(b bytes, free int) {
	at, isConstant := b.index.(constant)
	switch {
	case isConstant && b.shift == 0:
		c.emit(load(b.base+int(at), b.size))
	case isConstant:
		c.emit(bpf.LoadMemShift{Off: uint32(prefix + b.shift)}, bpf.LoadIndirect{Off: uint32(prefix+b.base) + uint32(at), Size: b.size})
	default:
		c.value(b.index, free)
		if b.shift != 0 {
			c.emit(bpf.LoadMemShift{Off: uint32(prefix + b.shift)}, bpf.ALUOpX{Op: bpf.ALUOpAdd})
		}
		c.emit(bpf.TAX{}, bpf.LoadIndirect{Off: uint32(prefix + b.base), Size: b.size})
	}
}
