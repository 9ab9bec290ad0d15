package rocket

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The payloads of package rocket of the program, made a second time here: neither checks
// itself.

// mark begins every datagram.
const mark = 0x78726b74 // "xrkt"

// ErrForeign says that a payload is not one of this package's.
var ErrForeign = errors.New("payload is not a rocket's")

// CorruptError reports the first byte that is not what was sent.
type CorruptError struct {
	Number   uint64 // of the datagram; 0 for a stream
	Position uint64 // in the datagram or stream
	Got      byte
	Want     byte
}

// Error implements the error interface.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("payload %d: byte %d is %#02x, want %#02x", e.Number, e.Position, e.Got, e.Want)
}

// patternByte is the byte at a position of the payload or stream with that key.
func patternByte(key, position uint64) byte {
	z := (key+1)*0xbf58476d1ce4e5b9 + (position>>3)*0x9e3779b97f4a7c15
	z = (z ^ z>>31) * 0x94d049bb133111eb
	return byte((z ^ z>>29) >> (8 * (position & 7)))
}

// fillPattern writes the pattern from a position on.
func fillPattern(data []byte, key, position uint64) {
	for i := range data {
		data[i] = patternByte(key, position+uint64(i))
	}
}

// checkPattern compares data with the pattern from a position on.
func checkPattern(data []byte, key, position uint64) error {
	for i, got := range data {
		if want := patternByte(key, position+uint64(i)); got != want {
			return &CorruptError{Number: key, Position: position + uint64(i), Got: got, Want: want}
		}
	}
	return nil
}

// fillDatagram makes data, at least HeaderLength long, the payload with that number.
func fillDatagram(data []byte, number uint64) {
	binary.BigEndian.PutUint32(data, mark)
	binary.BigEndian.PutUint32(data[4:], uint32(len(data)))
	binary.BigEndian.PutUint64(data[8:], number)
	fillPattern(data[HeaderLength:], number, HeaderLength)
}

// CheckDatagram checks every byte of a datagram that a sender of this package
// sent, and returns its number. It fails with [ErrForeign] or a [CorruptError].
func CheckDatagram(data []byte) (number uint64, err error) {
	if len(data) < HeaderLength || binary.BigEndian.Uint32(data) != mark {
		return 0, ErrForeign
	}
	number = binary.BigEndian.Uint64(data[8:])
	if length := binary.BigEndian.Uint32(data[4:]); int(length) != len(data) {
		return number, fmt.Errorf("payload %d: %d bytes, want %d", number, len(data), length)
	}
	return number, checkPattern(data[HeaderLength:], number, HeaderLength)
}

// StreamChecker is an [io.Writer] for what a [TCP] or a [Stream] sent: it checks
// every byte and fails with a [CorruptError] at the first that is wrong.
type StreamChecker struct{ position uint64 }

// Write checks the next bytes of the stream.
func (c *StreamChecker) Write(data []byte) (int, error) {
	if err := checkPattern(data, 0, c.position); err != nil {
		n := int(err.(*CorruptError).Position - c.position)
		c.position += uint64(n)
		return n, err
	}
	c.position += uint64(len(data))
	return len(data), nil
}

// Checked returns how many bytes were right.
func (c *StreamChecker) Checked() uint64 { return c.position }
