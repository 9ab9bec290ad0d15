package expression

import "golang.org/x/net/bpf"

// prefix is how many bytes stand before the packet in the machine's input: its length,
// since the machine takes that of its input for it, which is only the headers here.
const prefix = 4

// A node is a condition: all of, one of, none of, or a test.
type node interface{}

type (
	allOf  []node
	oneOf  []node
	negate struct{ of node }
	// A test loads a value and compares it with a constant, or with register X.
	test struct {
		load  []bpf.Instruction
		cond  bpf.JumpTest
		value uint32
		withX bool
	}
)

// load reads size bytes of the packet.
func load(offset, size int) bpf.Instruction {
	return bpf.LoadAbsolute{Off: uint32(prefix + offset), Size: size}
}

func compare(offset, size int, cond bpf.JumpTest, value uint32) node {
	return test{load: []bpf.Instruction{load(offset, size)}, cond: cond, value: value}
}

func equals(offset, size int, value uint32) node {
	return compare(offset, size, bpf.JumpEqual, value)
}

// masked compares what a mask leaves; no bits of it, always.
func masked(offset int, value, mask uint32) node {
	t := test{load: []bpf.Instruction{load(offset, 4)}, cond: bpf.JumpEqual, value: value}
	if mask != 1<<32-1 {
		t.load = append(t.load, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
	}
	return t
}

// A program is being assembled. Labels are indices of marks.
type program struct {
	code  []instruction
	marks []int // where in code; -1: not yet
}

// An instruction is one of the machine's, or a jump to a label.
type instruction struct {
	plain bpf.Instruction
	label int // of an unconditional jump; only if plain is nil
}

// assemble returns the machine's program: it ends with 1 for a packet that passes.
func assemble(tree node) []bpf.Instruction {
	p := &program{}
	yes, no := p.label(), p.label()
	p.condition(tree, yes, no)
	p.mark(yes)
	p.emit(bpf.RetConstant{Val: 1})
	p.mark(no)
	p.emit(bpf.RetConstant{Val: 0})
	code := make([]bpf.Instruction, len(p.code))
	for i, c := range p.code {
		code[i] = c.plain
		if c.plain == nil {
			code[i] = bpf.Jump{Skip: uint32(p.marks[c.label] - i - 1)}
		}
	}
	return code
}

func (p *program) label() int {
	p.marks = append(p.marks, -1)
	return len(p.marks) - 1
}

func (p *program) mark(label int) { p.marks[label] = len(p.code) }

func (p *program) emit(instructions ...bpf.Instruction) {
	for _, i := range instructions {
		p.code = append(p.code, instruction{plain: i})
	}
}

func (p *program) jump(label int) { p.code = append(p.code, instruction{label: label}) }

// condition continues at yes or no. All jumps go forward, and conditional ones, which reach
// only 255 instructions, over one that reaches all.
func (p *program) condition(n node, yes, no int) {
	switch n := n.(type) {
	case allOf:
		for _, each := range n {
			next := p.label()
			p.condition(each, next, no)
			p.mark(next)
		}
		p.jump(yes)
	case oneOf:
		for _, each := range n {
			next := p.label()
			p.condition(each, yes, next)
			p.mark(next)
		}
		p.jump(no)
	case negate:
		p.condition(n.of, no, yes)
	case test:
		p.emit(n.load...)
		if n.withX {
			p.emit(bpf.JumpIfX{Cond: n.cond, SkipFalse: 1})
		} else {
			p.emit(bpf.JumpIf{Cond: n.cond, Val: n.value, SkipFalse: 1})
		}
		p.jump(yes)
		p.jump(no)
	}
}
