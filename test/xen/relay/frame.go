package main

import (
	"bytes"
	"errors"
	"io"
)

// kind reports what a frame carries.
type kind byte

const (
	ready     kind = 'r' // the guest has booted and waits for the line that starts the program
	begin     kind = 'b' // the guest starts the program
	stdout    kind = 'o' // what the program wrote to its stdout
	stderr    kind = 'e' // what the program wrote to its stderr
	alive     kind = 'a' // a sign of life, without text
	kernelLog kind = 'k' // the guest's kernel log, if the program failed
	status    kind = 's' // the program's exit status, in decimal; the last frame
	gone      kind = 'x' // dom0's sentence on why no status will come
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

// decoder takes a console apart: frames go to onFrame, which may end it early by
// returning false, and everything between frames goes to noise as it comes.
type decoder struct {
	noise   io.Writer
	onFrame func(kind, []byte) bool
	frame   []byte // what there is of a frame, from its mark on
}

// read feeds the decoder until the console ends.
func (d *decoder) read(console io.Reader) error {
	buf := make([]byte, 4*maxFrame)
	for {
		n, err := console.Read(buf)
		more, werr := d.feed(buf[:n])
		switch {
		case werr != nil:
			return werr
		case !more, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// feed takes the next bytes and reports whether more are wanted.
func (d *decoder) feed(data []byte) (bool, error) {
	for len(data) > 0 {
		if len(d.frame) == 0 {
			at := bytes.IndexByte(data, mark)
			if at < 0 {
				at = len(data)
			}
			if _, err := d.noise.Write(data[:at]); err != nil {
				return false, err
			}
			if data = data[at:]; len(data) > 0 {
				d.frame, data = append(d.frame, mark), data[1:]
			}
			continue
		}
		at := bytes.IndexAny(data, "\n\x01")
		if at < 0 {
			at = len(data)
		}
		d.frame = append(d.frame, data[:at]...)
		if data = data[at:]; len(data) == 0 {
			break
		}
		whole := d.frame
		d.frame = d.frame[:0]
		if data[0] == mark { // the frame before lost its end
			continue
		}
		data = data[1:]
		if len(whole) > 1 && !d.onFrame(kind(whole[1]), unescape(whole[2:])) {
			return false, nil
		}
	}
	return true, nil
}
