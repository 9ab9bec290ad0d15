package output

import "xentrace/internal/event"

// appendExplained appends a paragraph for each thing that was counted.
func (t *Text) appendExplained(b []byte, all []event.Explanation) []byte {
	for _, e := range all {
		b = append(b, '\n')
		start := len(b)
		b = appendWrapped(b, e.Name+" ("+Grouped(e.Count)+"): "+e.Meaning, 0, t.width())
		if t.Color {
			rest := string(b[start+len(e.Name):])
			b = append(t.appendColoured(b[:start], verdictColour(e.Verdict), e.Name), rest...)
		}
		b = t.appendAdvice(b, e.Advice)
	}
	return b
}

// appendAdvice appends each remedy: the command, then effect and cost, a line each.
func (t *Text) appendAdvice(b []byte, advice []event.Advice) []byte {
	const indent = 4
	for _, a := range advice {
		b = t.appendOneAdvice(b, a, indent)
	}
	return b
}

func (t *Text) appendOneAdvice(b []byte, a event.Advice, indent int) []byte {
	if a.Command != "" {
		b = t.appendCommand(b, a.Command, indent-2)
	}
	for _, sentence := range AboutAdvice(a) {
		b = appendWrapped(b, sentence, indent, t.width())
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
