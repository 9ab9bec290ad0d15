package record

import (
	"bytes"
	"fmt"
)

// Bounds of a line of more than alwaysParsed bytes: what is made of a value may take a thousand
// times the bytes that it is written with. xentrace writes less of each.
const (
	alwaysParsed  = 4 << 10
	maxInterfaces = 2048      // in one list; 577 are written at most
	maxElements   = 32 << 10  // of all lists
	maxValues     = 256 << 10 // of all objects and lists
	maxKey        = 256       // bytes
	maxText       = 16 << 10  // bytes; a stack frame may be a path of 4096
)

// maxLineOf bounds lines by the type of their object. Of some many are kept at once.
var maxLineOf = map[string]int{
	"packet": 1 << 20, "flow": 32 << 10, "notice": 64 << 10, "finding": 64 << 10,
	"start": maxLineBytes, "interval": maxLineBytes, "summary": maxLineBytes,
}

// A density is what was found of a line so far.
type density struct {
	values, elements int
	key              []byte // the last
	lists            []list // that are open, and objects
}

type list struct {
	object   bool
	elements int
	most     int
}

// tooDense returns why a line is not parsed; "" if it is.
func tooDense(line []byte) string {
	if len(line) <= alwaysParsed {
		return ""
	}
	if rest, is := bytes.CutPrefix(line, lineStart); is {
		kind, _, _ := bytes.Cut(rest, []byte{'"'})
		if _, known := maxLineOf[string(kind)]; !known {
			return "" // it is not read
		}
	}
	var d density
	for i := 0; i < len(line); i++ {
		reason := ""
		switch c := line[i]; c {
		case '"':
			n := stringLength(line[i+1:])
			reason = d.text(line[i+1:i+1+n], bytes.HasPrefix(line[min(i+n+2, len(line)):], []byte{':'}))
			i += n + 1
		case '[', '{':
			reason = d.open(c == '{')
		case ']', '}':
			d.lists = d.lists[:max(len(d.lists)-1, 0)]
		case ',':
			reason = d.next()
		}
		if reason != "" {
			return reason
		}
	}
	return ""
}

// stringLength is the length of a string up to its closing quote.
func stringLength(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b)
}

func (d *density) text(s []byte, key bool) string {
	most := maxText
	if key {
		d.key, most = s, maxKey
	}
	if len(s) > most {
		return fmt.Sprintf("text of more than %d bytes", most)
	}
	return ""
}

// maxDepth bounds how deep values are nested: 6 are.
const maxDepth = 32

func (d *density) open(object bool) string {
	if len(d.lists) == maxDepth {
		return fmt.Sprintf("values nested more than %d deep", maxDepth)
	}
	l := list{object: object, most: maxElements}
	if string(d.key) == "interfaces" {
		l.most = maxInterfaces
	}
	d.lists = append(d.lists, l)
	return d.next()
}

// next counts a value: the first of a list or object, or the one behind a comma.
func (d *density) next() string {
	if d.values++; d.values > maxValues {
		return fmt.Sprintf("more than %d values", maxValues)
	}
	if len(d.lists) == 0 || d.lists[len(d.lists)-1].object {
		return ""
	}
	l := &d.lists[len(d.lists)-1]
	l.elements++
	d.elements++
	if most := min(l.most, maxElements-d.elements+l.elements); l.elements > most {
		return fmt.Sprintf("list of more than %d values", l.most)
	}
	return ""
}
