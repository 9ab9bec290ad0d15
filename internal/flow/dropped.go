package flow

import (
	"slices"
	"time"
)

// after tells whether sequence number a lies behind b; they wrap.
func after(a, b uint32) bool { return int32(a-b) > 0 }

// mostSeqs is how many sequence numbers of one flow are remembered. What is sent
// again first is the lowest, so the highest give way.
const mostSeqs = 16

// A droppedSeq is a sequence number that was dropped and is not acknowledged.
type droppedSeq struct {
	seq    uint32
	times  int       // all in all
	still  int       // since snd_una moved last
	sndUna uint32    // at the time
	since  time.Time // first of those
}

// droppedSeqs are those of one flow, the lowest first.
type droppedSeqs []droppedSeq

// note counts one that was dropped while snd_una was as given.
func (s *droppedSeqs) note(seq, sndUna uint32, at time.Time) droppedSeq {
	i, found := slices.BinarySearchFunc(*s, seq, func(d droppedSeq, seq uint32) int { return int(int32(d.seq - seq)) })
	if !found {
		d := droppedSeq{seq: seq, times: 1, still: 1, sndUna: sndUna, since: at}
		if *s = slices.Insert(*s, i, d); len(*s) > mostSeqs {
			*s = (*s)[:mostSeqs]
		}
		return d
	}
	d := &(*s)[i]
	d.times++
	if d.sndUna == sndUna {
		d.still++
	} else {
		d.still, d.sndUna, d.since = 1, sndUna, at
	}
	return *d
}

// acknowledge forgets what lies before snd_una.
func (s *droppedSeqs) acknowledge(sndUna uint32) {
	*s = slices.DeleteFunc(*s, func(d droppedSeq) bool { return after(sndUna, d.seq) })
}
