package output

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"xentrace/internal/event"
)

// forged ends a line, begins one of its own with a priority of the journal, and moves what is
// around it.
const forged = "e\x1b[31m\u009b2J\r\n<3>forged\u202e\x00\t" + "                                        "

// colours are those that xentrace itself writes.
var colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// hides tells what is neither the end of a line nor seen.
func hides(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// forge replaces every text below v, and every key.
func forge(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(forged)
	case reflect.Pointer:
		if !v.IsNil() && v.Type() != reflect.TypeFor[*time.Location]() {
			forge(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			forge(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				forge(v.Field(i))
			}
		}
	case reflect.Map:
		forgeMap(v)
	case reflect.Interface:
		if text := reflect.ValueOf(forged); !v.IsNil() && text.Type().AssignableTo(v.Type()) {
			v.Set(text)
		}
	}
}

func forgeMap(v reflect.Value) {
	for _, k := range v.MapKeys() {
		key, value := reflect.New(k.Type()).Elem(), reflect.New(v.Type().Elem()).Elem()
		key.Set(k)
		value.Set(v.MapIndex(k))
		v.SetMapIndex(k, reflect.Value{})
		forge(key)
		forge(value)
		v.SetMapIndex(key, value)
	}
}

// Whatever text of an event, a recording's included, holds: it stays within its line, and moves
// nothing.
func TestForgedTextStaysText(t *testing.T) {
	probe := probed(func(*event.Probe) {})
	all := append(recordedEvents(), sampleReport(), &probe, probesOf(probe), busyFrontend(),
		&event.FixStep{Name: "mtu", Interface: "eth0", Command: "command", Effect: "effect", Cost: "cost", Message: "message", Path: "path", Content: "content"})
	for i, e := range all {
		forge(reflect.ValueOf(e))
		for name, text := range map[string]*Text{
			"of a run":      {Whole: true, Stacks: true, Location: time.UTC},
			"in color":      {Whole: true, Stacks: true, Color: true, Location: time.UTC},
			"of a terminal": {Stacks: true, Location: time.UTC, Evidence: true, Histogram: true},
		} {
			shown := colours.ReplaceAllString(string(text.Append(nil, e)), "")
			if at := strings.IndexFunc(shown, hides); at >= 0 {
				t.Errorf("%d %s %s: %q is shown", i, e.Type(), name, shown[max(at-60, 0):at+10])
			}
			if strings.Contains(shown, "\n<3>") || strings.HasPrefix(shown, "<3>") {
				t.Errorf("%d %s %s: a forged line: %q", i, e.Type(), name, shown)
			}
		}
		line := string(Recording{}.Append(nil, e))
		if at := strings.IndexFunc(line, hides); at >= 0 {
			t.Errorf("%d %s: %q in JSON", i, e.Type(), line[max(at-60, 0):at+10])
		}
	}
}
