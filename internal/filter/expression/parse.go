package expression

import "slices"

// maxDepth is how deep parentheses, brackets and negations may be nested.
const maxDepth = 64

// A parser reads an expression by recursive descent. Where the headers are depends on the
// VLAN tags named so far, as in libpcap: "vlan" moves those of all that follows it.
type parser struct {
	text   string
	tokens []token
	at     int
	depth  int

	link int // offset of the EtherType
	net  int // offset of what follows the link header
	// needs is the first primitive that takes the packet's own header.
	needs string
}

func (p *parser) parse() (node, error) {
	tokens, err := scan(p.text)
	if err != nil {
		return nil, err
	}
	p.tokens = tokens
	tree, _, err := p.expression(nil)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != endOfText {
		return nil, fault(t, "unexpected; write and, or, or nothing here")
	}
	return tree, nil
}

func (p *parser) peek() token { return p.tokens[p.at] }

// after is the token behind the next one.
func (p *parser) after() token { return p.tokens[min(p.at+1, len(p.tokens)-1)] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != endOfText {
		p.at++
	}
	return t
}

// accept takes the next token if it is one of these words or symbols.
func (p *parser) accept(texts ...string) bool {
	t := p.peek()
	if (t.kind == word || t.kind == symbol) && slices.Contains(texts, t.text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(text string) error {
	if t := p.peek(); !p.accept(text) {
		return fault(t, "want %s here", text)
	}
	return nil
}

func (p *parser) require(primitive string) {
	if p.needs == "" {
		p.needs = primitive
	}
}

func (p *parser) nest() error {
	if p.depth++; p.depth > maxDepth {
		return fault(p.peek(), "nested too deep; at most %d levels", maxDepth)
	}
	return nil
}

// expression reads terms joined by and and or, which bind alike, from left to right. A
// value alone, as 443 in "port 80 or 443", is qualified as the one before it: q.
func (p *parser) expression(q *qualifiers) (node, *qualifiers, error) {
	if err := p.nest(); err != nil {
		return nil, nil, err
	}
	defer func() { p.depth-- }()
	left, was, err := p.operand(q, false)
	for err == nil {
		var right node
		switch {
		case p.accept("and", "&&"):
			if right, was, err = p.operand(was, true); err == nil {
				left = allOf{left, right}
			}
		case p.accept("or", "||"):
			if right, was, err = p.operand(was, true); err == nil {
				left = oneOf{left, right}
			}
		default:
			return left, was, nil
		}
	}
	return nil, nil, err
}

// operand reads one side of and or or; values: it may be a value alone.
func (p *parser) operand(q *qualifiers, values bool) (node, *qualifiers, error) {
	if p.accept("not", "!") {
		if err := p.nest(); err != nil {
			return nil, nil, err
		}
		defer func() { p.depth-- }()
		of, was, err := p.operand(q, values)
		return negate{of}, was, err
	}
	t := p.peek()
	if p.arithmeticAhead() {
		return p.relation()
	}
	if t.kind == symbol && t.text == "(" {
		return p.parenthesis(q, values)
	}
	if !valueAhead(t) {
		return p.primitive()
	}
	if !values || q == nil {
		if t.kind == word {
			return nil, nil, fault(t, "unknown word; write e.g. tcp port 443 or host 10.0.0.9 (interfaces: -i)")
		}
		return nil, nil, fault(t, "write host, net, port or proto before it")
	}
	n, err := p.value(q)
	return n, q, err
}

// valueAhead reports whether a token is an address, a number or a name, not a keyword.
func valueAhead(t token) bool {
	switch t.kind {
	case number, dotted, address6, mac, escaped:
		return true
	case word:
		return !keyword(t.text)
	}
	return false
}

func keyword(text string) bool {
	_, isProtocol := protocols[text]
	_, isRefused := refused[text]
	_, isConstant := constants[text]
	return isProtocol || isRefused || isConstant || slices.Contains([]string{
		"and", "or", "not", "src", "dst", "host", "net", "mask", "port", "portrange", "proto",
		"less", "greater", "broadcast", "multicast", "vlan", "len", "length",
	}, text)
}

// parenthesis reads a relation that begins with one, values, or an expression.
func (p *parser) parenthesis(q *qualifiers, values bool) (node, *qualifiers, error) {
	before, needs := p.at, p.needs
	if n, was, err := p.relation(); err == nil {
		return n, was, nil
	}
	p.at, p.needs = before, needs
	if values && q != nil {
		if n, err := p.values(q); err == nil {
			return n, q, nil
		}
		p.at, p.needs = before, needs
	}
	p.take()
	n, _, err := p.expression(q)
	if err == nil {
		err = p.expect(")")
	}
	return n, q, err
}

// values reads what follows qualifiers: a value, or several in parentheses.
func (p *parser) values(q *qualifiers) (node, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if p.accept("not", "!") {
		of, err := p.values(q)
		return negate{of}, err
	}
	if !p.accept("(") {
		return p.value(q)
	}
	left, err := p.values(q)
	for err == nil {
		var right node
		switch {
		case p.accept("and", "&&"):
			right, err = p.values(q)
			left = allOf{left, right}
		case p.accept("or", "||"):
			right, err = p.values(q)
			left = oneOf{left, right}
		default:
			return left, p.expect(")")
		}
	}
	return nil, err
}
