package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

type frame struct {
	kind    kind
	payload string
}

// readAll decodes a console and returns its frames and its noise.
func readAll(t *testing.T, console io.Reader) ([]frame, string) {
	t.Helper()
	var noise strings.Builder
	var frames []frame
	d := decoder{noise: &noise, onFrame: func(k kind, p []byte) bool {
		frames = append(frames, frame{k, string(p)})
		return k != status
	}}
	if err := d.read(console); err != nil {
		t.Fatal(err)
	}
	return frames, noise.String()
}

func TestFramesSurviveTheConsole(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	tests := []struct {
		name    string
		payload string
	}{
		{"empty", ""},
		{"plain line", "ok\n"},
		{"no newline at the end", "50%"},
		{"backslashes", `\n \\ \`},
		{"every byte", string(every)},
		{"longest", strings.Repeat("\x01", maxFrame)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			console := []byte("[    0.1] noise\r\nhalf a line")
			console = appendFrame(console, stdout, []byte(tt.payload))
			console = append(console, "tail"...)
			for way, reader := range map[string]io.Reader{
				"at once":      bytes.NewReader(console),
				"byte by byte": iotest.OneByteReader(bytes.NewReader(console)),
			} {
				frames, noise := readAll(t, reader)
				if len(frames) != 1 || frames[0] != (frame{stdout, tt.payload}) {
					t.Errorf("%s: got %q, want one frame %q", way, frames, tt.payload)
				}
				if want := "[    0.1] noise\r\nhalf a linetail"; noise != want {
					t.Errorf("%s: noise %q, want %q", way, noise, want)
				}
			}
		})
	}
}

func TestFrameWithoutEndDoesNotHideTheNext(t *testing.T) {
	console := "\x01olost its end\x01eheard\n"
	frames, _ := readAll(t, strings.NewReader(console))
	if len(frames) != 1 || frames[0] != (frame{stderr, "heard"}) {
		t.Errorf("got %q, want the second frame alone", frames)
	}
}

func TestDecodingStopsAtTheStatus(t *testing.T) {
	console := appendFrame(nil, status, []byte("3"))
	console = appendFrame(console, stdout, []byte("late"))
	frames, _ := readAll(t, bytes.NewReader(console))
	if len(frames) != 1 || frames[0] != (frame{status, "3"}) {
		t.Errorf("got %q, want the status alone", frames)
	}
}
