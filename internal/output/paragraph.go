package output

// Paragraph returns text in lines of at most width columns, each indented.
func Paragraph(text string, indent, width int) string {
	return string(appendWrapped(nil, text, indent, width))
}
