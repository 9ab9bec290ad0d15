package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxLineBytes bounds one line. A summary of 512 interfaces takes 600 kB.
const maxLineBytes = 8 << 20

// A Damage is a part of a recording that cannot be read.
type Damage struct {
	Path   string
	Offset int64  // in bytes, in the file as it is stored
	Reason string // e.g. "frame: checksum does not match"
}

func (d Damage) String() string { return fmt.Sprintf("%s: at byte %d: %s", d.Path, d.Offset, d.Reason) }

// A chunk is a part of a file that holds whole lines.
type chunk struct {
	lines  []byte
	offset int64 // where in the file it is stored
	plain  bool  // offset counts bytes of lines, too
}

// readLines reads a recording and hands over whole lines; compressed is by its name,
// the content may know better. damaged is called with what cannot be read. Memory is bounded
// whatever the file holds.
func readLines(r io.Reader, compressed bool, emit func(chunk) error, damaged func(offset int64, reason string)) error {
	in := &input{r: r}
	if err := in.fill(4); err != nil {
		return err
	}
	l := &lineReader{in: in, emit: emit, damaged: damaged}
	if compressed && !bytes.HasPrefix(in.b, []byte("{")) || len(in.b) >= 4 && isFrame(in.b) {
		return l.frames()
	}
	return l.plain()
}

func isFrame(b []byte) bool {
	magic := binary.LittleEndian.Uint32(b)
	return magic == frameMagic || magic&^0xf == skippableMagic
}

// An input is a window of a file: b holds what was read at offset and not consumed.
type input struct {
	r      io.Reader
	b      []byte
	offset int64
	end    bool
}

const readBytes = 64 << 10

// fill reads until there are n bytes, or the file ends.
func (in *input) fill(n int) error {
	for len(in.b) < n && !in.end {
		space := max(n-len(in.b), readBytes)
		if cap(in.b)-len(in.b) < space {
			in.b = append(make([]byte, 0, len(in.b)+max(space, len(in.b))), in.b...)
		}
		got, err := in.r.Read(in.b[len(in.b) : len(in.b)+space])
		in.b = in.b[:len(in.b)+got]
		if errors.Is(err, io.EOF) {
			in.end = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (in *input) skip(n int) {
	in.b, in.offset = in.b[n:], in.offset+int64(n)
}

// Read hands over bytes for the decoder of a long frame.
func (in *input) Read(p []byte) (int, error) {
	if err := in.fill(1); err != nil {
		return 0, err
	}
	if len(in.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, in.b)
	in.skip(n)
	return n, nil
}

type lineReader struct {
	in      *input
	emit    func(chunk) error
	damaged func(int64, string)
	decoder *zstd.Decoder
	part    []byte // of a line that the next frame ends, where another program cut it
}

// plain reads lines that are not compressed.
func (l *lineReader) plain() error {
	in := l.in
	searched := 0 // bytes without a line break
	for {
		if err := in.fill(len(in.b) + 1); err != nil {
			return err
		}
		end := searched + bytes.LastIndexByte(in.b[searched:], '\n') + 1
		if end == searched {
			end, searched = 0, len(in.b)
		} else {
			searched = 0
		}
		switch {
		case end > 0:
			if err := l.emit(chunk{lines: bytes.Clone(in.b[:end]), offset: in.offset, plain: true}); err != nil {
				return err
			}
			in.skip(end)
		case in.end && len(in.b) > 0:
			l.damaged(in.offset, "cut off within a line")
			return nil
		case in.end:
			return nil
		case len(in.b) > maxLineBytes:
			searched = 0
			if err := l.skipLine(); err != nil {
				return err
			}
		}
	}
}

// skipLine skips a line that is too long for any that xentrace writes.
func (l *lineReader) skipLine() error {
	l.damaged(l.in.offset, fmt.Sprintf("line of more than %d bytes", maxLineBytes))
	for !l.in.end || len(l.in.b) > 0 {
		if at := bytes.IndexByte(l.in.b, '\n'); at >= 0 {
			l.in.skip(at + 1)
			return nil
		}
		l.in.skip(len(l.in.b))
		if err := l.in.fill(1); err != nil {
			return err
		}
	}
	return nil
}

// frames reads zstd frames. Behind damage it looks for the next frame.
func (l *lineReader) frames() error {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxWindow))
	if err != nil {
		return err
	}
	defer decoder.Close()
	l.decoder = decoder
	for {
		if err := l.in.fill(8); err != nil {
			return err
		}
		if len(l.in.b) == 0 {
			if len(l.part) > 0 {
				l.damaged(l.in.offset, "cut off within a line")
			}
			return nil
		}
		offset := l.in.offset
		reason, err := l.frame()
		if err != nil {
			return err
		}
		if reason == "" {
			continue
		}
		l.part = nil
		l.damaged(offset, reason)
		if l.in.offset == offset {
			l.in.skip(1)
		}
		if err := l.seek(); err != nil {
			return err
		}
	}
}

// frame reads one frame. It returns why the frame cannot be read.
func (l *lineReader) frame() (reason string, err error) {
	in := l.in
	length, more, err := frameLength(in.b)
	for more && err == nil && !in.end && len(in.b) < maxFrameBytes {
		if err := in.fill(max(length, len(in.b)) + 8); err != nil {
			return "", err
		}
		length, more, err = frameLength(in.b)
	}
	switch {
	case err != nil:
		return err.Error(), nil
	case more && in.end || length > len(in.b) && in.end:
		return "cut off within a frame", nil
	case more || length > maxFrameBytes:
		return l.longFrame()
	}
	offset := in.offset
	if isFrame := binary.LittleEndian.Uint32(in.b) == frameMagic; !isFrame {
		return "", l.skipFrame(length)
	}
	lines, err := l.decoder.DecodeAll(in.b[:length], nil)
	if err != nil {
		return "frame: " + err.Error(), nil
	}
	in.skip(length)
	return "", l.add(lines, offset)
}

func (l *lineReader) skipFrame(length int) error {
	if err := l.in.fill(length); err != nil {
		return err
	}
	l.in.skip(min(length, len(l.in.b)))
	return nil
}

// longFrame reads a frame that is too long to be kept, as it comes.
func (l *lineReader) longFrame() (reason string, err error) {
	offset := l.in.offset
	if err := l.decoder.Reset(l.in); err != nil {
		return "frame: " + err.Error(), nil
	}
	buffer := make([]byte, readBytes)
	for {
		n, err := l.decoder.Read(buffer)
		if failed := l.add(bytes.Clone(buffer[:n]), offset); failed != nil {
			return "", failed
		}
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "frame: " + err.Error(), nil
		}
	}
}

// add hands over the whole lines of a frame, behind what the frame before began.
func (l *lineReader) add(lines []byte, offset int64) error {
	if len(l.part) > 0 {
		lines = append(l.part, lines...)
		l.part = nil
	}
	end := bytes.LastIndexByte(lines, '\n') + 1
	if rest := lines[end:]; len(rest) > maxLineBytes {
		l.damaged(offset, fmt.Sprintf("line of more than %d bytes", maxLineBytes))
	} else if len(rest) > 0 {
		l.part = bytes.Clone(rest)
	}
	return l.emitParts(lines[:end], offset)
}

// emitParts hands lines over, some at a time: events take many times the memory of their
// lines, and a frame of some kilobytes may hold 128 MiB of these.
func (l *lineReader) emitParts(lines []byte, offset int64) error {
	for len(lines) > 0 {
		n := len(lines)
		if n > readBytes {
			if n = bytes.LastIndexByte(lines[:readBytes], '\n') + 1; n == 0 { // one long line
				n = bytes.IndexByte(lines, '\n') + 1
			}
		}
		if n > maxLineBytes {
			l.damaged(offset, fmt.Sprintf("line of more than %d bytes", maxLineBytes))
		} else if err := l.emit(chunk{lines: lines[:n], offset: offset}); err != nil {
			return err
		}
		lines = lines[n:]
	}
	return nil
}

// seek skips to where a frame may begin.
func (l *lineReader) seek() error {
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	for {
		if at := bytes.Index(l.in.b, magic); at >= 0 {
			l.in.skip(at)
			return nil
		}
		if l.in.end {
			l.in.skip(len(l.in.b))
			return nil
		}
		l.in.skip(max(len(l.in.b)-len(magic)+1, 0))
		if err := l.in.fill(len(l.in.b) + 1); err != nil {
			return err
		}
	}
}
