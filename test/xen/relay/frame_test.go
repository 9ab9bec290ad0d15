package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestFramesSurviveTheConsole(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	tests := []struct {
		name    string
		payload []byte
	}{
		{"empty", nil},
		{"plain line", []byte("ok\n")},
		{"no newline at the end", []byte("50%")},
		{"backslashes", []byte(`\n \\ \`)},
		{"every byte", every},
		{"longest", bytes.Repeat([]byte{mark}, maxFrame)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			console := []byte("[    0.1] noise\r\nhalf a line")
			console = appendFrame(console, stdout, tt.payload)
			console = append(console, "tail"...)

			var noise strings.Builder
			var got [][]byte
			err := decode(bytes.NewReader(console), &noise, func(k kind, p []byte) bool {
				if k != stdout {
					t.Errorf("kind %q, want %q", k, stdout)
				}
				got = append(got, bytes.Clone(p))
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || !bytes.Equal(got[0], tt.payload) {
				t.Errorf("got %q, want one frame %q", got, tt.payload)
			}
			if want := "[    0.1] noise\r\nhalf a linetail"; noise.String() != want {
				t.Errorf("noise %q, want %q", noise.String(), want)
			}
		})
	}
}

func TestDecodeStopsWhenTold(t *testing.T) {
	console := appendFrame(nil, status, []byte("3"))
	console = appendFrame(console, stdout, []byte("late"))
	frames := 0
	err := decode(bytes.NewReader(console), &strings.Builder{}, func(kind, []byte) bool {
		frames++
		return false
	})
	if err != nil || frames != 1 {
		t.Errorf("%d frames, error %v; want 1 and none", frames, err)
	}
}
