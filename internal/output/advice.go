package output

import "xentrace/internal/event"

// adviceIndent is where advice begins, behind the prompt of its command.
const adviceIndent = 4

// appendExplained appends a paragraph for each thing that was counted.
func (t *Text) appendExplained(b []byte, all []event.Explanation) []byte {
	for _, e := range all {
		b = t.appendParagraph(append(b, '\n'), verdictColour(e.Verdict), e.Name, " ("+Grouped(e.Count)+"): "+e.Meaning)
		b = t.appendAdvice(b, e.Advice, adviceIndent)
	}
	return b
}

// appendParagraph appends a name, in colour, and what follows it, wrapped.
func (t *Text) appendParagraph(b []byte, c colour, name, rest string) []byte {
	start := len(b)
	b = appendWrapped(b, name+rest, 0, t.width())
	if !t.Color {
		return b
	}
	rest = string(b[start+len(name):])
	return append(t.appendColoured(b[:start], c, name), rest...)
}

// appendAdvice appends each remedy: the command, then effect and cost, a line each.
func (t *Text) appendAdvice(b []byte, advice []event.Advice, indent int) []byte {
	for _, a := range advice {
		if a.Command != "" {
			b = t.appendCommand(b, a.Command, indent-2)
		}
		for _, sentence := range AboutAdvice(a) {
			b = appendWrapped(b, sentence, indent, t.width())
		}
	}
	return b
}

// AboutAdvice is effect and cost, a sentence each.
func AboutAdvice(a event.Advice) []string {
	var sentences []string
	if a.Effect != "" {
		sentences = append(sentences, a.Effect)
	}
	if a.Cost != "" {
		sentences = append(sentences, "Cost: "+a.Cost)
	}
	return sentences
}
