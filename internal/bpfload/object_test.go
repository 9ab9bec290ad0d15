package bpfload

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"xentrace/bpf"
	"xentrace/internal/kernel"
	"xentrace/test/need"
)

// A program parsed alone is the one of the whole object, with what is relocated in it.
func TestParse(t *testing.T) {
	for name, object := range map[string][]byte{"xentrace": bpf.XentraceObject(), "congestion": bpf.CongestionObject()} {
		all, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
		if err != nil {
			t.Fatal(err)
		}
		for program, want := range all.Programs {
			one, err := parse(object, []string{program}, false)
			if err != nil {
				t.Fatalf("%s of %s: %v", program, name, err)
			}
			got := one.Programs[program]
			for other, p := range one.Programs {
				if p.SectionName != want.SectionName {
					t.Errorf("%s of %s: %s is parsed as well", program, name, other)
				}
			}
			if got.Type != want.Type || got.AttachTo != want.AttachTo || !slices.Equal(code(got), code(want)) {
				t.Errorf("%s of %s: %d instructions, want the %d of the whole object", program, name, len(got.Instructions), len(want.Instructions))
			}
			if len(one.Maps) != len(all.Maps) || len(one.Variables) != len(all.Variables) {
				t.Errorf("%s of %s: %d maps and %d variables, want %d and %d", program, name, len(one.Maps), len(one.Variables), len(all.Maps), len(all.Variables))
			}
		}
	}
}

// An operation is what an instruction does.
type operation struct {
	op             asm.OpCode
	dst, src       asm.Register
	offset         int16
	constant       int64
	reference      string
	function, core string
}

func code(p *ebpf.ProgramSpec) (operations []operation) {
	for i := range p.Instructions {
		ins := &p.Instructions[i]
		o := operation{op: ins.OpCode, dst: ins.Dst, src: ins.Src, offset: ins.Offset, constant: ins.Constant, reference: ins.Reference()}
		if function := btf.FuncMetadata(ins); function != nil {
			o.function = function.Name
		}
		if relocation := btf.CORERelocationMetadata(ins); relocation != nil {
			o.core = relocation.String()
		}
		operations = append(operations, o)
	}
	return operations
}

// Source lines are there when asked for only; else each function has one.
func TestParseLines(t *testing.T) {
	lines := func(with bool) (n, functions int) {
		spec, err := parse(bpf.XentraceObject(), []string{bpf.XentraceProgFindHolders}, with)
		if err != nil {
			t.Fatal(err)
		}
		for _, ins := range spec.Programs[bpf.XentraceProgFindHolders].Instructions {
			if ins.Source() != nil {
				n++
			}
			if btf.FuncMetadata(&ins) != nil {
				functions++
			}
		}
		return n, functions
	}
	if got, functions := lines(false); functions == 0 || got != functions {
		t.Errorf("%d instructions have a source line, of %d functions", got, functions)
	}
	if got, functions := lines(true); got < functions+3 {
		t.Errorf("%d instructions have a source line, of %d functions", got, functions)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, object := range map[string][]byte{"nothing": nil, "no ELF file": []byte("BPF"), "half of it": bpf.XentraceObject()[:100000]} {
		if _, err := parse(object, nil, false); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := parse(bpf.XentraceObject(), []string{"none"}, false); err == nil {
		t.Error("no error for a program that is not in the object")
	}
}

// The log of a program that the verifier refuses has the source lines.
func TestLoadShowsLines(t *testing.T) {
	need.Root(t, "to load BPF programs")
	broken := func(programs map[string]*ebpf.ProgramSpec) {
		first := &programs[bpf.XentraceProgReadCode].Instructions[0]
		*first = asm.Mov.Reg(asm.R0, asm.R5).WithMetadata(first.Metadata) // R5 is not initialized
	}
	s := Selection{Programs: []string{bpf.XentraceProgReadCode}, Edit: broken, Types: kernel.NewTypes()}
	for _, silent := range []bool{true, false} {
		s.NoLog = silent
		_, err := Load(bpf.XentraceObject(), s)
		var refused *ebpf.VerifierError
		if !errors.As(err, &refused) {
			t.Fatalf("%v, want the verifier's refusal", err)
		}
		shown := slices.ContainsFunc(refused.Log, func(line string) bool { return strings.HasPrefix(line, "; ") })
		if (len(refused.Log) == 0) != silent || shown == silent {
			t.Errorf("silent %v: log %q", silent, refused.Log)
		}
	}
}

func TestOverlay(t *testing.T) {
	o := &overlay{object: []byte("abcdefgh")}
	o.put(2, []byte("12"))
	o.put(7, []byte("3"))
	for from := range 9 {
		for length := range 9 {
			got := make([]byte, length)
			n, err := o.ReadAt(got, int64(from))
			want := []byte("ab12efg3")[from:min(from+length, 8)]
			if short := len(want) < length; string(got[:n]) != string(want) || (err == io.EOF) != short {
				t.Errorf("%d bytes from %d: %q, %v, want %q", length, from, got[:n], err, want)
			}
		}
	}
	if _, err := o.ReadAt(make([]byte, 1), 9); err != io.EOF {
		t.Errorf("behind the end: %v", err)
	}
}

// The library comments an instruction that it poisons.
func TestLoadWithComment(t *testing.T) {
	need.Root(t, "to load BPF programs")
	comment := func(programs map[string]*ebpf.ProgramSpec) {
		second := &programs[bpf.XentraceProgReadCode].Instructions[1]
		*second = second.WithSource(asm.Comment("poisoned"))
	}
	collection, err := Load(bpf.XentraceObject(), Selection{Programs: []string{bpf.XentraceProgReadCode}, Edit: comment, NoLog: true, Types: kernel.NewTypes()})
	if err != nil {
		t.Fatal(err)
	}
	collection.Close()
}
