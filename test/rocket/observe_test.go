package rocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
)

// packet is what a transmit handed to a driver.
type packet struct {
	slots, frags, length int
	headOffset, headLen  int
}

// observer sees every packet that one interface is handed, through a program at
// the raw tracepoint net_dev_start_xmit which copies the packet's parts as they
// are. The slots are counted here, so that this owes nothing to the tracer.
type observer struct {
	layout  layout
	program *ebpf.Program
	link    link.Link
	events  *ebpf.Map
	reader  *ringbuf.Reader
}

// layout holds where the running kernel has the fields, in bytes.
type layout struct {
	skbData, skbHead, skbEnd, skbLen, skbDataLen uint32
	devIfindex, devNet, netInum                  uint32
	frags, nrFrags                               uint32 // in skb_shared_info
}

// A record is data, head, end, len and data_len, then the shared info.
const (
	recordInfo   = 32
	infoLength   = 448
	recordLength = recordInfo + infoLength
)

// observe begins to watch the interface with that index in the network namespace
// with that inode number.
func observe(t *testing.T, ifindex int, netns uint32) *observer {
	t.Helper()
	must(t, rlimit.RemoveMemlock())
	o := &observer{layout: kernelLayout(t)}
	var err error
	o.events, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 1 << 24})
	must(t, err)
	t.Cleanup(func() { o.events.Close() })
	scratch, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: recordLength, MaxEntries: 1})
	must(t, err)
	defer scratch.Close()
	o.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "Dual BSD/GPL",
		Instructions: o.layout.copyPacket(ifindex, netns, scratch.FD(), o.events.FD()),
	})
	must(t, err)
	t.Cleanup(func() { o.program.Close() })
	o.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "net_dev_start_xmit", Program: o.program})
	must(t, err)
	t.Cleanup(func() { o.link.Close() })
	o.reader, err = ringbuf.NewReader(o.events)
	must(t, err)
	t.Cleanup(func() { o.reader.Close() })
	return o
}

// copyPacket is the program.
func (l layout) copyPacket(ifindex int, netns uint32, scratch, events int) asm.Instructions {
	read := func(to asm.Register, toOffset int16, length int32, from asm.Register, offset uint32) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, to), asm.Add.Imm(asm.R1, int32(toOffset)), asm.Mov.Imm(asm.R2, length),
			asm.Mov.Reg(asm.R3, from), asm.Add.Imm(asm.R3, int32(offset)), asm.FnProbeReadKernel.Call(),
		}
	}
	skb, dev, record, sp := asm.R7, asm.R8, asm.R9, asm.RFP
	program := asm.Instructions{
		asm.LoadMem(skb, asm.R1, 0, asm.DWord), asm.LoadMem(dev, asm.R1, 8, asm.DWord),
	}
	program = append(program, read(sp, -8, 4, dev, l.devIfindex)...)
	program = append(program, asm.LoadMem(asm.R1, sp, -8, asm.Word), asm.JNE.Imm(asm.R1, int32(ifindex), "end"))
	program = append(program, read(sp, -8, 8, dev, l.devNet)...)
	program = append(program, asm.LoadMem(asm.R6, sp, -8, asm.DWord))
	program = append(program, read(sp, -8, 4, asm.R6, l.netInum)...)
	program = append(program, asm.LoadMem(asm.R1, sp, -8, asm.Word), asm.LoadImm(asm.R2, int64(netns), asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, "end"),
		asm.StoreImm(sp, -4, 0, asm.Word), asm.LoadMapPtr(asm.R1, scratch), asm.Mov.Reg(asm.R2, sp),
		asm.Add.Imm(asm.R2, -4), asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "end"), asm.Mov.Reg(record, asm.R0))
	for _, field := range []struct {
		at     int16
		length int32
		offset uint32
	}{{0, 8, l.skbData}, {8, 8, l.skbHead}, {16, 4, l.skbEnd}, {20, 4, l.skbLen}, {24, 4, l.skbDataLen}} {
		program = append(program, read(record, field.at, field.length, skb, field.offset)...)
	}
	program = append(program, asm.LoadMem(asm.R6, record, 8, asm.DWord), asm.LoadMem(asm.R1, record, 16, asm.Word),
		asm.Add.Reg(asm.R6, asm.R1))
	program = append(program, read(record, recordInfo, infoLength, asm.R6, 0)...)
	return append(program, asm.LoadMapPtr(asm.R1, events), asm.Mov.Reg(asm.R2, record),
		asm.Mov.Imm(asm.R3, recordLength), asm.Mov.Imm(asm.R4, 0), asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return())
}

// packets returns what was sent since the last call.
func (o *observer) packets(t *testing.T) []packet {
	t.Helper()
	var list []packet
	for {
		o.reader.SetDeadline(time.Now())
		record, err := o.reader.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return list
		}
		must(t, err)
		list = append(list, o.layout.decode(record.RawSample))
	}
}

// decode counts the slots of a packet: the pages that each of its parts touches.
func (l layout) decode(record []byte) packet {
	word := func(at uint32) int { return int(binary.NativeEndian.Uint32(record[at:])) }
	touched := func(offset, length int) int { return (offset%4096 + length + 4095) / 4096 }
	p := packet{length: word(20), headLen: word(20) - word(24), headOffset: word(0) % 4096}
	p.slots = touched(p.headOffset, p.headLen)
	info := record[recordInfo:]
	p.frags = int(info[l.nrFrags])
	for i := range p.frags {
		// struct bio_vec and struct skb_frag alike since 5.4: page, length, offset.
		frag := info[int(l.frags)+16*i:]
		p.slots += touched(int(binary.NativeEndian.Uint32(frag[12:])), int(binary.NativeEndian.Uint32(frag[8:])))
	}
	return p
}

// kernelLayout reads the running kernel's BTF.
func kernelLayout(t *testing.T) (l layout) {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	must(t, err)
	at := func(name string, path ...string) uint32 {
		t.Helper()
		var s *btf.Struct
		must(t, spec.TypeByName(name, &s))
		offset := uint32(0)
		for _, field := range path {
			member, found := find(s.Members, field)
			if !found {
				t.Fatalf("struct %s has no %s", name, field)
			}
			offset += member.Offset.Bytes()
			s, _ = btf.UnderlyingType(member.Type).(*btf.Struct)
		}
		return offset
	}
	l.skbData, l.skbHead, l.skbEnd = at("sk_buff", "data"), at("sk_buff", "head"), at("sk_buff", "end")
	l.skbLen, l.skbDataLen = at("sk_buff", "len"), at("sk_buff", "data_len")
	l.devIfindex, l.devNet = at("net_device", "ifindex"), at("net_device", "nd_net", "net")
	l.netInum = at("net", "ns", "inum")
	l.frags, l.nrFrags = at("skb_shared_info", "frags"), at("skb_shared_info", "nr_frags")
	if l.frags+17*16 > infoLength {
		t.Fatalf("skb_shared_info's fragments begin at %d", l.frags)
	}
	return l
}

// find looks a member up, in anonymous structs and unions too.
func find(members []btf.Member, name string) (btf.Member, bool) {
	for _, m := range members {
		if m.Name == name {
			return m, true
		}
		if m.Name != "" {
			continue
		}
		var inner []btf.Member
		switch inside := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			inner = inside.Members
		case *btf.Union:
			inner = inside.Members
		}
		if found, ok := find(inner, name); ok {
			found.Offset += m.Offset
			return found, true
		}
	}
	return btf.Member{}, false
}

// histogram counts packets by their slots.
func histogram(packets []packet) map[int]int {
	counts := make(map[int]int)
	for _, p := range packets {
		counts[p.slots]++
	}
	return counts
}

func (p packet) String() string {
	return fmt.Sprintf("%d slots, %d frags, length %d, head %d/%d", p.slots, p.frags, p.length, p.headOffset, p.headLen)
}
