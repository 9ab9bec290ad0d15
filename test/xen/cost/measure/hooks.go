package main

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// function is where the driver is handed a packet.
const function = "xennet_start_xmit"

// attachHook attaches a program that only returns.
func attachHook(hook string) (link.Link, error) {
	switch hook {
	case "fentry":
		return attachTracing(ebpf.AttachTraceFEntry)
	case "fexit":
		return attachTracing(ebpf.AttachTraceFExit)
	case "start_xmit":
		return attachRaw("net_dev_start_xmit", returning())
	case "xmit":
		return attachRaw("net_dev_xmit", returning())
	}
	program, err := newProgram(&ebpf.ProgramSpec{Name: "empty_" + hook, Type: ebpf.Kprobe, Instructions: returning()})
	if err != nil {
		return nil, err
	}
	if hook == "kretprobe" {
		return link.Kretprobe(function, program, nil)
	}
	return link.Kprobe(function, program, nil)
}

func returning() asm.Instructions { return asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()} }

func newProgram(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	spec.License = "Dual BSD/GPL"
	program, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, fmt.Errorf("program %s: %w", spec.Name, err)
	}
	return program, nil
}

func attachTracing(kind ebpf.AttachType) (link.Link, error) {
	program, err := newProgram(&ebpf.ProgramSpec{
		Name: "empty_tracing", Type: ebpf.Tracing, AttachType: kind, AttachTo: function, Instructions: returning(),
	})
	if err != nil {
		return nil, err
	}
	return link.AttachTracing(link.TracingOptions{Program: program, AttachType: kind})
}

func attachRaw(tracepoint string, instructions asm.Instructions) (link.Link, error) {
	program, err := newProgram(&ebpf.ProgramSpec{Name: "m_" + tracepoint, Type: ebpf.RawTracepoint, Instructions: instructions})
	if err != nil {
		return nil, err
	}
	return link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: program})
}

// hasModuleBTF reports whether fentry can be attached to the driver.
func hasModuleBTF() (bool, error) {
	_, err := btf.LoadKernelModuleSpec("xen_netfront")
	if errors.Is(err, btf.ErrNotFound) || errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	if err != nil {
		return false, nil //nolint:nilerr // before 5.11 there is no such file
	}
	return true, nil
}
