package redact

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/test/need"
)

// marks identify somebody. Each is in every text of every event.
var marks = []string{
	"db7.acme.example", "db7", "acmed", "Web Content", "acme-billing.service", "acme-billing", "0f1e2d3c4b5a69788796a5b4", "0f1e2d3c4b5a", "acme0",
	"8.8.4.4", "2a00:1450:4001::7", "00:16:3e:01:02:03", "/home/acme/x", "/srv/acme", "enx00163e010203",
}

// text has the marks as sentences have them.
const text = `db7.acme.example is db7: acmed (7), pid:acmed, "Web Content" of acme-billing.service, acme-billing, ` +
	`container 0f1e2d3c4b5a69788796a5b4 or 0f1e2d3c4b5a. On acme0 and enx00163e010203, 8.8.4.4, to:8.8.4.4:443, 8.8.4.4-8.8.4.4, 8.8.4.4/24, ` +
	`[2a00:1450:4001::7]:443; 00:16:3e:01:02:03; cannot open /home/acme/x: none, read:/srv/acme, http://db7/acmed, user@db7.acme.example`

const redactedText = `host-1 is host-1: proc-1 (7), pid:proc-1, "proc-2" of unit-1, unit-1, ` +
	`container container-1 or container-1. On if-1 and if-2, 192.0.2.1, to:192.0.2.1:443, 192.0.2.1-192.0.2.1, 192.0.2.1/24, ` +
	`[2001:db8::1]:443; 02:00:00:00:00:01; cannot open file-2: none, read:file-3, http:file-4, user@host-1`

// staying are the fields whose text is the program's, the kernel's or the hypervisor's own.
var staying = []string{
	"Advice.ID", "Explanation.Name", "Fact.Key", "Finding.ID", "FlowHistory.Reasons", "Gap.Reason", "InterfaceTotals.Backend", "InterfaceTotals.Driver", "InterfaceTotals.Reasons",
	"Notice.Backend", "Notice.Driver", "Notice.ID", "Packet.Reason", "Start.Commit", "Start.Kernel", "Start.Machine", "Start.Version", "StartInterface.Driver", "StartInterface.Features",
	"Totals.Drops", "Totals.Missing", "Xen.Type", "Xen.Version",
}

// fill puts the text into every string, and the addresses into every address.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.MustParseAddrPort("8.8.4.4:443")))
		return
	case []byte:
		v.SetBytes(tcpFrame("8.8.4.4", "8.8.4.4"))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Interface:
		v.Set(reflect.ValueOf(text))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	}
}

// left adds the fields that hold a mark, as Type.Field.
func left(v reflect.Value, field string, found map[string]bool) {
	marked := func(s string) {
		if slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(s, mark) }) {
			found[field] = true
		}
	}
	switch known := v.Interface().(type) {
	case netip.AddrPort:
		marked(known.String())
		return
	case []byte:
		if strings.Contains(string(known), "\x08\x08\x04\x04") || strings.Contains(string(known), "\x00\x16\x3e") {
			found[field] = true
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		marked(v.String())
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			left(v.Elem(), field, found)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			left(v.Index(i), field, found)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			left(key, field, found)
			left(v.MapIndex(key), field+" values", found)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				left(v.Field(i), v.Type().Name()+"."+f.Name, found)
			}
		}
	}
}

// recorded are the events that recordings have.
func recorded() []event.Event {
	return []event.Event{&event.Packet{}, &event.FlowEvent{}, &event.Start{}, &event.Interval{}, &event.Summary{}, &event.Notice{}, &event.Finding{}, &event.Report{}}
}

// Of every field of every event, also of those that come later, the marks are gone, but for
// those listed.
func TestEveryField(t *testing.T) {
	r := New()
	r.Event(&event.Start{Hostname: "db7.acme.example"})
	for _, comm := range []string{"acmed", "Web Content"} {
		r.Event(&event.Packet{Process: &event.Process{Comm: comm, Unit: "acme-billing.service", Container: "0f1e2d3c4b5a69788796a5b4"}, Interface: event.Device{Name: "acme0"}})
	}
	r.Event(&event.Notice{Device: event.Device{Name: "enx00163e010203"}})
	found := make(map[string]bool)
	for _, e := range recorded() {
		fill(reflect.ValueOf(e).Elem())
		left(reflect.ValueOf(r.Event(e)).Elem(), "", found)
	}
	for field := range found {
		if !slices.Contains(staying, field) {
			t.Errorf("%s holds a mark", field)
		}
	}
	for _, field := range staying {
		if !found[field] {
			t.Errorf("%s is listed and holds no mark", field)
		}
	}
	if got, want := r.text(text), redactedText; got != want {
		t.Errorf("the text becomes %s, want %s", got, want)
	}
}

// An event of a type that is added later is left out until it is redacted.
func TestEveryType(t *testing.T) {
	need.Tool(t, "go")
	files, err := filepath.Glob("../event/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, is := d.(*ast.FuncDecl); is && f.Recv != nil && f.Name.Name == "Type" {
				types = append(types, f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name)
			}
		}
	}
	others := []event.Event{&event.Congestion{}, &event.FixStep{}, &event.Probe{}, &event.Probes{}}
	for _, e := range others {
		if New().Event(e) != nil {
			t.Errorf("%s is not left out", e.Type())
		}
	}
	for _, e := range slices.Concat(recorded(), others) {
		name := reflect.TypeOf(e).Elem().Name()
		types = slices.DeleteFunc(types, func(known string) bool { return known == name })
	}
	if len(types) > 0 {
		t.Errorf("of %q nobody knows whether recordings have them", types)
	}
}

// Interfaces that somebody named have replacements, those that say what they are stay.
func TestInterfaceNames(t *testing.T) {
	for name, stays := range map[string]bool{
		"eth0": true, "enX0": true, "ens192": true, "enp0s3f1np0": true, "eno1": true, "vif12.0": true, "vif12.0-emu": true, "bond0.100": true, "eth0:1": true, "veth1a2b3c4": true,
		"br-1a2b3c4d5e6f": true, "cali1234abcd567": true, "lo": true, "(others)": true, "docker0": true,
		"acme0": false, "enx00163e010203": false, "eth-acme": false, "br-acme": false, "web": false, "tap-feed-db": false, "eth0.acme": false,
	} {
		if got := New().interfaceName(name); (got == name) != stays {
			t.Errorf("%s became %s", name, got)
		}
	}
}

// Nothing of a command line stays but what the program knows.
func TestCommandLines(t *testing.T) {
	for given, want := range map[string]string{
		"/home/acme/bin/xentrace watch -i acme0":      "xentrace watch -i ...",
		"/home/acme/acme-trace watch":                 "... watch",
		"xentrace watch -iacme0 --comm sshd -d 90s":   "xentrace watch -i... --comm ... -d 90s",
		"xentrace watch --comm=sshd --port 443 -w/x":  "xentrace watch --comm=... --port 443 -w...",
		"xentrace /home --size 64MiB dmsd --10.0.0.1": "xentrace ... --size 64MiB ... --...",
	} {
		if got := strings.Join(New().arguments(strings.Fields(given)), " "); got != want {
			t.Errorf("%s became %s, want %s", given, got, want)
		}
	}
}

// A process may be called as no name is: texts stay what they are.
func TestNamesThatAreNoWords(t *testing.T) {
	r := New()
	for _, comm := range []string{" ", "=", "a b", "a b c"} {
		r.Event(&event.Packet{Process: &event.Process{Comm: comm}})
	}
	if got := r.text("a = a b c, a b"); got != "a = proc-4, proc-3" {
		t.Errorf("%q", got)
	}
}
