// Package browser drives a headless Chromium over a pipe, for tests of HTML pages. It uses
// no network: requests for anything but files are noted, and none would be answered.
package browser

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"xentrace/test/need"
)

// A Browser is a running Chromium with one page.
type Browser struct {
	t       testing.TB
	to      io.Writer
	session string

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	loaded  chan struct{}
	noted   []string // console messages, exceptions and requests since the last Open
	failed  error
}

type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

type reply struct {
	result json.RawMessage
	err    error
}

// timeout is for a machine that does much else; nothing waits that long when it works.
const timeout = 3 * time.Minute

// Start runs Chromium until the test ends.
func Start(t testing.TB) *Browser {
	t.Helper()
	need.Tool(t, "chromium")
	theirs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Not the test's own: helper processes of Chromium may still write when it has ended.
	profile, err := os.MkdirTemp("", "xentrace-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--proxy-server=127.0.0.1:9",
		"--force-color-profile=srgb", "--user-data-dir="+profile, "--remote-debugging-pipe", "about:blank")
	command.ExtraFiles = []*os.File{theirs, answers}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	_ = answers.Close()
	b := &Browser{t: t, to: to, waiting: make(map[int]chan reply), loaded: make(chan struct{}, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.read(from)
	}()
	t.Cleanup(func() {
		_, _ = b.call("", "Browser.close", nil) // it may be gone already
		_ = to.Close()
		kill := time.AfterFunc(10*time.Second, func() { _ = command.Process.Kill() })
		_ = command.Wait()
		kill.Stop()
		_ = from.Close()
		<-ended
		_ = os.RemoveAll(profile)
	})
	b.attach()
	return b
}

func (b *Browser) attach() {
	b.t.Helper()
	var targets struct {
		TargetInfos []struct{ TargetID, Type string }
	}
	b.must("", "Target.getTargets", nil, &targets)
	for _, target := range targets.TargetInfos {
		if target.Type == "page" {
			var attached struct{ SessionID string }
			b.must("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
			b.session = attached.SessionID
		}
	}
	if b.session == "" {
		b.t.Fatal("chromium has no page")
	}
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.Call(domain+".enable", nil, nil)
	}
	b.Call("Network.emulateNetworkConditions", map[string]any{"offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}, nil)
}

// read handles what Chromium sends: JSON, ended by a zero byte.
func (b *Browser) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			b.end(fmt.Errorf("chromium ended: %w", err))
			return
		}
		var m message
		var params json.RawMessage
		m.Params = &params
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			b.end(fmt.Errorf("chromium: %w", err))
			return
		}
		if m.ID == 0 {
			b.event(m.Method, params)
			continue
		}
		r := reply{result: m.Result}
		if m.Error != nil {
			r.err = errors.New(m.Error.Message)
		}
		b.mu.Lock()
		waiting := b.waiting[m.ID]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		if waiting != nil {
			waiting <- r
		}
	}
}

func (b *Browser) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = err
	for _, waiting := range b.waiting {
		waiting <- reply{err: err}
	}
	clear(b.waiting)
}

func (b *Browser) event(method string, params json.RawMessage) {
	switch method {
	case "Page.loadEventFired":
		select {
		case b.loaded <- struct{}{}:
		default:
		}
	case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
		b.note(method + " " + string(params))
	case "Network.requestWillBeSent":
		var sent struct{ Request struct{ URL string } }
		if err := json.Unmarshal(params, &sent); err != nil || len(sent.Request.URL) < 7 || sent.Request.URL[:7] != "file://" {
			b.note("request " + string(params))
		}
	}
}

func (b *Browser) note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noted = append(b.noted, text)
}

// Noted returns console messages, exceptions and requests since the last Open.
func (b *Browser) Noted() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.noted
}

func (b *Browser) call(session, method string, params any) (json.RawMessage, error) {
	b.mu.Lock()
	if b.failed != nil {
		defer b.mu.Unlock()
		return nil, b.failed
	}
	b.next++
	answer := make(chan reply, 1)
	b.waiting[b.next] = answer
	text, err := json.Marshal(message{ID: b.next, SessionID: session, Method: method, Params: params})
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case r := <-answer:
		return r.result, r.err
	case <-time.After(timeout):
		return nil, errors.New("no answer from chromium")
	}
}

func (b *Browser) must(session, method string, params, result any) {
	b.t.Helper()
	raw, err := b.call(session, method, params)
	if err == nil && result != nil {
		err = json.Unmarshal(raw, result)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

// Call calls a method of the DevTools protocol for the page.
func (b *Browser) Call(method string, params, result any) {
	b.t.Helper()
	b.must(b.session, method, params, result)
}

// Show sets how wide the window is and which colours the user prefers, "light" or "dark".
func (b *Browser) Show(width, height int, scheme string) {
	b.t.Helper()
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Open opens a file and waits until it is loaded.
func (b *Browser) Open(path string) {
	b.t.Helper()
	b.mu.Lock()
	b.noted = nil
	b.mu.Unlock()
	select {
	case <-b.loaded:
	default:
	}
	b.Call("Page.navigate", map[string]any{"url": "file://" + path}, nil)
	select {
	case <-b.loaded:
	case <-time.After(timeout):
		b.t.Fatalf("%s does not load", path)
	}
}

// Eval stores the value of a JavaScript expression, awaited if it is a promise.
func (b *Browser) Eval(expression string, result any) {
	b.t.Helper()
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.Call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &got)
	if len(got.ExceptionDetails) > 0 {
		b.t.Fatalf("%.200s: %s", expression, got.ExceptionDetails)
	}
	if result == nil || len(got.Result.Value) == 0 {
		return
	}
	if err := json.Unmarshal(got.Result.Value, result); err != nil {
		b.t.Fatalf("%.200s: %v in %s", expression, err, got.Result.Value)
	}
}

// A Box is where an element is, in pixels of the window.
type Box struct{ X, Y, Width, Height float64 }

// Box scrolls to the element that a JavaScript expression names, and returns where it is.
func (b *Browser) Box(element string) Box {
	b.t.Helper()
	var box Box
	b.Eval(fmt.Sprintf(`(() => { const e = %s; e.scrollIntoView({ block: "center", behavior: "instant" }); const r = e.getBoundingClientRect();
		return { X: r.x, Y: r.y, Width: r.width, Height: r.height }; })()`, element), &box)
	return box
}

// Click clicks the middle of an element.
func (b *Browser) Click(element string) {
	b.t.Helper()
	box := b.Box(element)
	x, y := box.X+box.Width/2, box.Y+box.Height/2
	b.mouse("mousePressed", x, y)
	b.mouse("mouseReleased", x, y)
}

// Drag drags across an element, from one share of its width to another.
func (b *Browser) Drag(element string, from, to float64) {
	b.t.Helper()
	box := b.Box(element)
	y := box.Y + box.Height/2
	b.mouse("mousePressed", box.X+from*box.Width, y)
	b.mouse("mouseMoved", box.X+(from+to)/2*box.Width, y)
	b.mouse("mouseReleased", box.X+to*box.Width, y)
}

func (b *Browser) mouse(kind string, x, y float64) {
	b.t.Helper()
	button, buttons := "left", 1
	if kind == "mouseReleased" {
		buttons = 0
	}
	b.Call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1}, nil)
}

// Type types text, or a key that has a name such as "Enter" or "Tab", into what has focus.
func (b *Browser) Type(text string) {
	b.t.Helper()
	keys := map[string]map[string]any{
		"Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
		"Tab":   {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
	}
	key, is := keys[text]
	if !is {
		b.Call("Input.insertText", map[string]any{"text": text}, nil)
		return
	}
	for _, kind := range []string{"keyDown", "keyUp"} {
		key["type"] = kind
		b.Call("Input.dispatchKeyEvent", key, nil)
	}
}

// Screenshot writes a PNG of the window.
func (b *Browser) Screenshot(path string) {
	b.t.Helper()
	b.save("Page.captureScreenshot", map[string]any{"format": "png"}, path)
}

// PDF prints the page as its style says and returns the file.
func (b *Browser) PDF(path string) []byte {
	b.t.Helper()
	return b.save("Page.printToPDF", map[string]any{"preferCSSPageSize": true, "printBackground": true}, path)
}

// save writes what a method returns; an empty path is not written.
func (b *Browser) save(method string, params map[string]any, path string) []byte {
	b.t.Helper()
	var got struct{ Data string }
	b.Call(method, params, &got)
	data, err := base64.StdEncoding.DecodeString(got.Data)
	if err == nil && path != "" {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}
