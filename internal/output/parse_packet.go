package output

import (
	"bytes"
	"encoding/base64"
	"math"
	"net/netip"
	"time"

	"xentrace/internal/event"
)

// parsePacket reads a packet's line exactly as AppendPacket writes it, which is what nearly
// every line of a recording is: ten times as fast as encoding/json. Of any other line it
// reports false, and encoding/json decides.
func parsePacket(line []byte) (*event.Packet, bool) {
	c := cursor{line, true}
	p := &event.Packet{}
	c.literal(`{"type":"packet","time":`)
	p.Time = c.time()
	p.CPU = c.int(`,"cpu":`)
	c.literal(`,"layer":`)
	layer := c.text()
	c.literal(`,"ifname":`)
	p.Interface.Name = c.text()
	p.Interface.Index = c.int(`,"ifindex":`)
	p.Interface.NetNS = c.uint32(`,"netns":`)
	p.Queue = c.int(`,"queue":`)
	c.literal(`,"verdict":`)
	verdict := c.text()
	c.literal(`,"cause":`)
	cause := c.nullable()
	p.Slots = c.int(`,"slots":`)
	p.Limit = c.int(`,"limit":`)
	p.Len = c.int(`,"len":`)
	p.HeadOffset = c.int(`,"head_offset":`)
	p.HeadLen = c.int(`,"head_len":`)
	p.Frags = c.frags()
	p.GSOSize = c.int(`,"gso_size":`)
	p.GSOSegs = c.int(`,"gso_segs":`)
	p.Flow = c.flow(`,"flow":`)
	p.TCP = c.tcp()
	p.Process = c.process()
	c.literal(`,"reason":`)
	p.Reason = c.nullable()
	p.Stack = c.stack()
	c.tail(p)
	var err error
	p.Layer, p.Verdict, p.Cause, err = parseVerdict(layer, verdict, cause)
	return p, c.ok && err == nil && len(c.b) == 0
}

// tail reads what follows the stack.
func (c *cursor) tail(p *event.Packet) {
	if !c.null(`,"seq":`) {
		seq := c.uint32("")
		if p.Flow == nil {
			c.ok = false
			return
		}
		p.Flow.Seq, p.Flow.SeqKnown = seq, true
	}
	if !c.null(`,"ethertype":`) {
		p.EtherType = c.uint16("")
	}
	if !c.null(`,"inner":`) {
		p.Inner = c.flow(`{"flow":`)
		c.literal(`}`)
	}
	if !c.null(`,"header":`) {
		text := c.text()
		header, err := base64.StdEncoding.DecodeString(text)
		c.ok = c.ok && err == nil
		p.Header = header
	}
	if c.skip(`,"before_nat":{"flow":`) {
		p.BeforeNAT = c.flow("")
		c.literal(`}`)
	}
	c.literal(`}`)
}

func (c *cursor) frags() []event.Frag {
	c.literal(`,"frags":[`)
	if c.skip(`]`) {
		return []event.Frag{}
	}
	frags := make([]event.Frag, 0, 18)
	for c.ok {
		frags = append(frags, event.Frag{Offset: c.uint32(`{"offset":`), Size: c.uint32(`,"size":`)})
		c.uint(`,"slots":`, math.MaxUint64)
		c.literal(`}`)
		if c.skip(`]`) {
			return frags
		}
		c.literal(`,`)
	}
	return nil
}

func (c *cursor) flow(key string) *event.Flow {
	if c.null(key) {
		return nil
	}
	c.literal(`{"family":`)
	c.text()
	c.literal(`,"proto":`)
	proto, known := protocolNumber(c.text())
	c.literal(`,"saddr":`)
	source := c.address()
	sport := c.uint16(`,"sport":`)
	c.literal(`,"daddr":`)
	destination := c.address()
	dport := c.uint16(`,"dport":`)
	c.literal(`}`)
	c.ok = c.ok && known
	return &event.Flow{Proto: proto, Source: netip.AddrPortFrom(source, sport), Destination: netip.AddrPortFrom(destination, dport)}
}

func (c *cursor) tcp() *event.TCP {
	if c.null(`,"tcp":`) {
		return nil
	}
	c.literal(`{"state":`)
	state, err := parseTCPState(c.text())
	t := &event.TCP{
		State: state, Seq: c.uint32(`,"seq":`), SndUna: c.uint32(`,"snd_una":`), SndNxt: c.uint32(`,"snd_nxt":`), WriteSeq: c.uint32(`,"write_seq":`),
		Retransmits: c.int(`,"retransmits":`), RTO: time.Duration(c.int(`,"rto_ms":`)) * time.Millisecond,
		SRTT: time.Duration(c.int(`,"srtt_us":`)) * time.Microsecond, SndQBytes: c.uint32(`,"sndq_bytes":`),
	}
	c.literal(`}`)
	c.ok = c.ok && err == nil
	return t
}

func (c *cursor) process() *event.Process {
	if c.null(`,"process":`) {
		return nil
	}
	p := &event.Process{PID: c.int(`{"pid":`)}
	c.literal(`,"comm":`)
	p.Comm = c.nullable()
	p.UID = c.uint32(`,"uid":`)
	c.literal(`,"unit":`)
	p.Unit = c.nullable()
	c.literal(`,"container":`)
	p.Container = c.nullable()
	c.literal(`}`)
	return p
}

func (c *cursor) stack() []string {
	c.literal(`,"stack":[`)
	stack := []string{}
	if c.skip(`]`) {
		return stack
	}
	for c.ok {
		stack = append(stack, c.text())
		if c.skip(`]`) {
			return stack
		}
		c.literal(`,`)
	}
	return nil
}

// A cursor reads a line from left to right; ok turns false where it is not what is expected.
type cursor struct {
	b  []byte
	ok bool
}

func (c *cursor) skip(text string) bool {
	if len(c.b) < len(text) || string(c.b[:len(text)]) != text {
		return false
	}
	c.b = c.b[len(text):]
	return true
}

func (c *cursor) literal(text string) { c.ok = c.skip(text) && c.ok }

// null reads a key, and null if that is its value.
func (c *cursor) null(key string) bool {
	c.literal(key)
	return c.skip("null")
}

// uint reads a key and a number without sign, fraction and leading zero.
func (c *cursor) uint(key string, most uint64) uint64 {
	c.literal(key)
	n, i := uint64(0), 0
	for i < len(c.b) && c.b[i]-'0' <= 9 && i < 19 {
		n, i = n*10+uint64(c.b[i]-'0'), i+1
	}
	c.ok = c.ok && i > 0 && n <= most && (i == 1 || c.b[0] != '0') && (i == len(c.b) || c.b[i]-'0' > 9)
	c.b = c.b[i:]
	return n
}

func (c *cursor) int(key string) int       { return int(c.uint(key, math.MaxInt32)) }
func (c *cursor) uint32(key string) uint32 { return uint32(c.uint(key, math.MaxUint32)) }
func (c *cursor) uint16(key string) uint16 { return uint16(c.uint(key, math.MaxUint16)) }

// quoted reads a string without escapes, of ASCII alone.
func (c *cursor) quoted() []byte {
	if !c.skip(`"`) {
		c.ok = false
		return nil
	}
	end := bytes.IndexByte(c.b, '"')
	if end < 0 {
		c.ok = false
		return nil
	}
	text := c.b[:end]
	for _, b := range text {
		if b < ' ' || b > '~' || b == '\\' {
			c.ok = false
		}
	}
	c.b = c.b[end+1:]
	return text
}

func (c *cursor) text() string { return string(c.quoted()) }

// nullable reads a string, or null as an empty one.
func (c *cursor) nullable() string {
	if c.skip("null") {
		return ""
	}
	return c.text()
}

func (c *cursor) time() time.Time {
	t, err := time.Parse(time.RFC3339, c.text())
	c.ok = c.ok && err == nil
	return t
}

func (c *cursor) address() netip.Addr {
	a, err := netip.ParseAddr(c.text())
	c.ok = c.ok && err == nil
	return a
}
