package rocket

import "encoding/binary"

// slotSize is what one slot of a Xen ring holds: XEN_PAGE_SIZE, whatever the
// kernel's own page size.
const slotSize = 4096

// maxWrite is the longest write that leaves room for other bytes before the next, in bytes.
const maxWrite = slotSize - 1

// blockSize returns the size of the block that a thread's page fragment is cut
// from: SKB_FRAG_PAGE_ORDER is get_order(32768), on every kernel from 3.7 to 7.x.
func blockSize(pageSize int) int { return max(32768, pageSize) }

// refillMinimum is the room that sk_page_frag_refill asks for: with less left,
// the rest of the block is skipped.
const refillMinimum = 32

// fragment follows the page fragment of a thread: where the next byte will lie.
type fragment struct {
	offset int // in the block
	size   int // of the block
}

// start is where the next byte lies: at the start of a new block if this one has no space.
func (f *fragment) start() int {
	if f.offset+refillMinimum > f.size {
		return 0
	}
	return f.offset
}

// advance is n bytes written to any socket of the thread.
func (f *fragment) advance(n int) {
	for n > 0 {
		f.offset = f.start()
		copied := min(n, f.size-f.offset)
		f.offset += copied
		n -= copied
	}
}

// filler returns how much must be written elsewhere so that the next length
// bytes lie half before and half after a slot boundary inside a block.
func (f fragment) filler(length int) int {
	start := f.start()
	before := length / 2
	for at := slotSize - before; at+length <= f.size; at += slotSize {
		if at >= start {
			return at - start
		}
	}
	// Use the block up and go to the first boundary of the next one.
	return f.size - start + slotSize - before
}

// fillerWithin returns how much must be written elsewhere so that the next length
// bytes lie inside one slot, apart from what was written before: bytes that follow
// directly would become one fragment with it.
func (f fragment) fillerWithin(length int) int {
	start := f.start()
	for at := start + 1; at+length <= f.size; at++ {
		if at/slotSize == (at+length-1)/slotSize {
			return at - start
		}
	}
	return f.size - start + 1
}

// plan is what to write elsewhere for one packet whose thread begins at the start
// of a block, so that the next packet's begins there too.
type plan struct {
	before []int // each write
	after  int   // the packet
}

// newPlan lays out n writes of the given length, each straddling a slot boundary.
func newPlan(n, length, pageSize int) plan { return newSlotPlan(2*n, length, pageSize) }

// newSlotPlan lays out writes of the given length that need that many slots together:
// each straddles a slot boundary, but the last of an odd number of slots.
//
// What comes after uses the block up, and another one, to its last byte. So the
// next packet begins at the start of a block in either case: the kernel takes a
// new block since this is full, or this from its start since nobody uses it any
// more (page_ref_count of 1). And if the fragment was elsewhere, since
// the kernel had a single page only, the second case sets it right: no packet
// keeps that last block, which is read back at once.
func newSlotPlan(slots, length, pageSize int) plan {
	f := fragment{size: blockSize(pageSize)}
	p := plan{before: make([]int, (slots+1)/2)}
	for i := range p.before {
		if p.before[i] = f.filler(length); 2*i+1 == slots {
			p.before[i] = f.fillerWithin(length)
		}
		f.advance(p.before[i])
		f.advance(length)
	}
	if rest := f.size - f.offset; rest >= refillMinimum {
		p.after = rest
	}
	p.after += f.size
	return p
}

// HeaderLength is the least payload of a datagram of this package: a mark, the
// payload's length and the datagram's number.
const HeaderLength = 16

const mark = 0x78726b74 // "xrkt"

func patternByte(key, position uint64) byte {
	z := (key+1)*0xbf58476d1ce4e5b9 + (position>>3)*0x9e3779b97f4a7c15
	z = (z ^ z>>31) * 0x94d049bb133111eb
	return byte((z ^ z>>29) >> (8 * (position & 7)))
}

func fillPattern(data []byte, key, position uint64) {
	for i := range data {
		data[i] = patternByte(key, position+uint64(i))
	}
}

func fillDatagram(data []byte, number uint64) {
	binary.BigEndian.PutUint32(data, mark)
	binary.BigEndian.PutUint32(data[4:], uint32(len(data)))
	binary.BigEndian.PutUint64(data[8:], number)
	fillPattern(data[HeaderLength:], number, HeaderLength)
}
