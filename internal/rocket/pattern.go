package rocket

import "encoding/binary"

// HeaderLength is the least payload of a datagram of this package: a mark, the
// payload's length and the datagram's number.
const HeaderLength = 16

// mark begins every datagram.
const mark = 0x78726b74 // "xrkt"

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

// fillDatagram makes data, at least HeaderLength long, the payload with that number.
func fillDatagram(data []byte, number uint64) {
	binary.BigEndian.PutUint32(data, mark)
	binary.BigEndian.PutUint32(data[4:], uint32(len(data)))
	binary.BigEndian.PutUint64(data[8:], number)
	fillPattern(data[HeaderLength:], number, HeaderLength)
}
