package report

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"reflect"
	"slices"
	"unicode"
	"unicode/utf8"

	"xentrace/internal/output"
)

// mostBytes is the size that a page does not exceed: it then shows fewer connections and
// events, and reports that.
const mostBytes = 300_000

// Options are what a page shows besides the events.
type Options struct {
	Files    []File   // that the events were read from; nil for a live run
	Commands []string // that made the page, as a shell accepts them
	Damage   []string // what of the files could not be read, sentences
	// Unfinished is what counts leave out of runs without a summary, sentences.
	Unfinished []string
	Redacted   bool   // addresses and names are replaced
	Version    string // of xentrace that makes the page
}

// A File is a recording that a page was made from.
type File struct {
	Path   string
	SHA256 string // in hexadecimal
	Bytes  int64
}

// Begins is what every page begins with.
const Begins = "<!DOCTYPE html>"

// A Page is one HTML file.
type Page struct{ html []byte }

// WriteTo writes the page.
func (p *Page) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(p.html)
	return int64(n), err
}

// limits are how much of what may be long a page shows.
type limits struct {
	connections  int
	extractBytes int
	frames       int // of a stack
	rows         int // of long lists
	text         int // characters of any text
}

func (l limits) half() limits {
	return limits{max(l.connections/2, 3), l.extractBytes / 2, max(l.frames/2, 4), max(l.rows/2, 3), max(l.text/2, 40)}
}

// least reports whether halving changes little.
func (l limits) least() bool { return l.extractBytes < 256 }

// Page makes a page of what was collected. The Collector is closed then.
func (c *Collector) Page(o Options) (*Page, error) {
	_ = c.Close() // always nil
	l := limits{connections: 50, extractBytes: extractBytes, frames: 24, rows: mostSpans, text: 1200}
	for {
		v := c.view(o, l)
		clipAll(reflect.ValueOf(v).Elem(), l.text)
		html, err := render("page.html.tmpl", v)
		if err != nil {
			return nil, fmt.Errorf("page: %w", err)
		}
		if len(html) <= mostBytes || l.least() {
			return &Page{html}, nil
		}
		l = l.half()
	}
}

// drawn are fields that are not text, or have a limit of their own.
var drawn = []string{"Path", "Raw"}

// clipAll shortens every text in a view, and spells out what does not print: a command that is
// copied must not end in the middle.
func clipAll(v reflect.Value, most int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(clip(output.Printable(v.String()), most))
	case reflect.Pointer:
		if !v.IsNil() {
			clipAll(v.Elem(), most)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			clipAll(v.Index(i), most)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; !slices.Contains(drawn, name) {
				clipAll(v.Field(i), most)
			}
		}
	}
}

//go:embed assets
var assets embed.FS

// frame is what every page has: its style, its script, and the policy that allows these
// two by their hashes and nothing else.
type frame struct {
	Style, Script template.HTML
	Policy        string
}

func newFrame() (frame, error) {
	style, err := assets.ReadFile("assets/style.css")
	if err != nil {
		return frame{}, err
	}
	script, err := assets.ReadFile("assets/script.js")
	if err != nil {
		return frame{}, err
	}
	return frame{
		Style:  template.HTML("<style>" + string(style) + "</style>"),
		Script: template.HTML("<script>" + string(script) + "</script>"),
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'", sourceHash(style), sourceHash(script)),
	}, nil
}

// sourceHash names inline text in a Content-Security-Policy.
func sourceHash(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func render(name string, view any) ([]byte, error) {
	templates, err := template.ParseFS(assets, "assets/*.tmpl")
	if err != nil {
		return nil, err
	}
	f, err := newFrame()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = templates.ExecuteTemplate(&b, name, struct {
		frame
		View any
	}{f, view})
	return printable(b.Bytes()), err
}

// printable spells out what does not print, wherever a name got it from: characters that
// reverse text, and bytes that are not UTF-8.
func printable(page []byte) []byte {
	clean := make([]byte, 0, len(page))
	for len(page) > 0 {
		r, size := utf8.DecodeRune(page)
		switch {
		case r == utf8.RuneError && size == 1:
			clean = fmt.Appendf(clean, `\x%02x`, page[0])
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			clean = append(clean, page[:size]...)
		default:
			clean = fmt.Appendf(clean, `\u%04x`, r)
		}
		page = page[size:]
	}
	return clean
}
