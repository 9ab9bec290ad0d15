package netfront

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// An xzWriter writes an .xz file of one block that stores its content uncompressed. The
// dictionary is as the format encodes its size: 18 is 2 MiB, 40 is 4 GiB - 1.
type xzWriter struct {
	to         io.Writer
	dictionary byte
	content    []byte
}

func (w *xzWriter) Write(b []byte) (int, error) {
	w.content = append(w.content, b...)
	return len(b), nil
}

// sealed appends the checksum of what was appended from start on.
func sealed(b []byte, start int) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

func padded(b []byte, start int) []byte {
	return append(b, make([]byte, -(len(b)-start)&3)...)
}

func (w *xzWriter) Close() error {
	const chunk = 64 << 10
	flags := []byte{0, 1} // CRC32
	b := sealed(append([]byte("\xfd7zXZ\x00"), flags...), 6)
	header := len(b)
	b = sealed(append(b, 2, 0, 0x21, 1, w.dictionary, 0, 0, 0), header)
	control := byte(1) // the first chunk resets the dictionary
	for rest := w.content; len(rest) > 0; control = 2 {
		n := min(len(rest), chunk)
		b = append(binary.BigEndian.AppendUint16(append(b, control), uint16(n-1)), rest[:n]...)
		rest = rest[n:]
	}
	b = append(b, 0)
	unpadded := len(b) - header + 4
	b = padded(b, header)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(w.content))
	index := len(b)
	b = append(b, 0, 1)
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(unpadded)), uint64(len(w.content)))
	b = sealed(padded(b, index), index)
	size := uint32(len(b)-index)/4 - 1
	footer := append(binary.LittleEndian.AppendUint32(nil, size), flags...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(footer))
	_, err := io.Copy(w.to, bytes.NewReader(append(append(b, footer...), "YZ"...)))
	return err
}
