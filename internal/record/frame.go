package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// A compressed recording is a sequence of zstd frames, one per flush, each with a checksum
// and with whole lines: a damaged frame costs only itself.
const (
	frameMagic     = 0xfd2fb528
	skippableMagic = 0x184d2a50 // to 0x184d2a5f: metadata, which every reader skips

	// maxFrameBytes bounds a frame that is verified before a line of it is used. A longer one,
	// of a file that zstd(1) compressed as a whole, is read as it comes.
	maxFrameBytes = 8 << 20

	maxBlockBytes = 128 << 10 // of every block of a frame

	// maxWindow is the decoder's memory for one frame: that of zstd --long, and no more.
	maxWindow = 128 << 20
)

var errFrame = errors.New("not a zstd frame")

// frameLength returns how long the frame at the start of b is, of which b may hold only
// the beginning: then more is true. RFC 8878, 3.1.
func frameLength(b []byte) (length int, more bool, err error) {
	if len(b) < 8 {
		return 0, true, nil
	}
	magic := binary.LittleEndian.Uint32(b)
	if magic&^0xf == skippableMagic {
		return 8 + int(binary.LittleEndian.Uint32(b[4:])), false, nil
	}
	if magic != frameMagic {
		return 0, false, errFrame
	}
	var header zstd.Header
	if err := header.Decode(b); err != nil {
		if len(b) < zstd.HeaderMaxSize {
			return 0, true, nil
		}
		return 0, false, fmt.Errorf("%w: %w", errFrame, err)
	}
	at := header.HeaderSize
	for {
		if at+3 > len(b) {
			return at, true, nil
		}
		block := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		last, kind, size := block&1 == 1, block>>1&3, block>>3
		switch {
		case kind == 3 || size > maxBlockBytes:
			return 0, false, errFrame
		case kind == 1: // one byte, repeated
			size = 1
		}
		if at += 3 + size; last {
			break
		}
	}
	if header.HasCheckSum {
		at += 4
	}
	return at, at > len(b), nil
}

// A frameWriter compresses lines into frames.
type frameWriter struct {
	encoder *zstd.Encoder
	buffer  []byte
}

func newFrameWriter() (*frameWriter, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithWindowSize(1<<20))
	return &frameWriter{encoder: encoder}, err
}

// frame returns the frame of lines; it is overwritten by the next.
func (w *frameWriter) frame(lines []byte) []byte {
	w.buffer = w.encoder.EncodeAll(lines, w.buffer[:0])
	return w.buffer
}
