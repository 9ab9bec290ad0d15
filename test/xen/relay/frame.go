package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// kind tells what a frame carries.
type kind byte

const (
	begin  kind = 'b' // the guest has booted and starts the program
	stdout kind = 'o' // what the program wrote to its stdout
	stderr kind = 'e' // what the program wrote to its stderr
	status kind = 's' // the program's exit status, in decimal; the last frame
	gone   kind = 'x' // dom0's sentence on why no status will come
)

// A frame is one line: mark, kind, payload. The mark never stands in a payload,
// so a frame is found again after whatever the kernel writes to the console.
const mark = 0x01

// maxFrame bounds the payload of one frame before escaping.
const maxFrame = 4096

var escapes = map[byte]byte{'\n': 'n', '\\': '\\', mark: 'm'}

// appendFrame appends one frame with the given payload to buf.
func appendFrame(buf []byte, k kind, payload []byte) []byte {
	buf = append(buf, mark, byte(k))
	for _, b := range payload {
		if e, ok := escapes[b]; ok {
			buf = append(buf, '\\', e)
		} else {
			buf = append(buf, b)
		}
	}
	return append(buf, '\n')
}

// unescape restores a payload in place.
func unescape(payload []byte) []byte {
	out := payload[:0]
	for i := 0; i < len(payload); i++ {
		b := payload[i]
		if b == '\\' && i+1 < len(payload) {
			i++
			for plain, e := range escapes {
				if payload[i] == e {
					b = plain
				}
			}
		}
		out = append(out, b)
	}
	return out
}

// decode reads a console until its end: frames go to onFrame, which may end it
// early by returning false, and everything between frames goes to noise.
func decode(console io.Reader, noise io.Writer, onFrame func(kind, []byte) bool) error {
	r := bufio.NewReaderSize(console, 4*maxFrame)
	for {
		line, err := r.ReadSlice('\n')
		at := bytes.LastIndexByte(line, mark)
		if at < 0 || err != nil || len(line)-at < 3 {
			if _, werr := noise.Write(line); werr != nil {
				return werr
			}
		} else {
			if _, werr := noise.Write(line[:at]); werr != nil {
				return werr
			}
			if !onFrame(kind(line[at+1]), unescape(line[at+2:len(line)-1])) {
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}
