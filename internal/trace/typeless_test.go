package trace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/test/need"
	"xentrace/test/role"
	"xentrace/test/vmlinux"
)

// On a kernel that shows no types, those in a file serve: the tracer counts by raw
// tracepoints, and records with the fields of packets.
func TestTracerWithTypesOfAFile(t *testing.T) {
	need.Root(t, "to hide the kernel's types")
	types, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		t.Fatal(err)
	}
	notes, err := os.ReadFile("/sys/kernel/notes")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(file, vmlinux.File(types, notes), 0o600); err != nil {
		t.Fatal(err)
	}
	traced(t, file)
}

// What is learned by experiment is what the kernel's own types say, and serves the tracer as well.
func TestTracerWithLearnedTypes(t *testing.T) {
	need.Root(t, "to make interfaces and to hide the kernel's types")
	layout, err := Learn(t.Context(), func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	types, err := kernel.FindTypes("")
	if err != nil {
		t.Fatal(err)
	}
	if agree, err := layout.Against(types); err != nil || agree != len(layout) || agree != 76 {
		t.Errorf("%d of %d agree, want 76: %v", agree, len(layout), err)
	}
	id, err := kernel.RunningBuildID()
	if err != nil {
		t.Fatal(err)
	}
	content, err := LearnedTypes(layout, id)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "types")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	traced(t, file, "learned")
}

// traced has a process trace whose kernel shows no types.
func traced(t *testing.T, args ...string) {
	t.Helper()
	child := role.Command("typeless", args...)
	child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if text, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

// traceWithoutTypes is that process, in a mount namespace of its own.
func traceWithoutTypes(args []string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", "/sys/kernel/btf", "tmpfs", 0, ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o := Options{Interfaces: []string{"lo"}, Records: true, Drops: event.DropsAll}
	if _, err := Start(ctx, o); !errors.Is(err, ErrCannotRun) || !strings.Contains(err.Error(), "--btf FILE") || !strings.Contains(err.Error(), "check, fix,") {
		return fmt.Errorf("without types: error %w", err)
	}
	o.BTF = args[0]
	if len(args) > 1 {
		if _, err := Start(ctx, o); !errors.Is(err, ErrCannotRun) || !strings.Contains(err.Error(), "drops elsewhere need more of the kernel's types than xentrace learn finds") {
			return fmt.Errorf("drops elsewhere with learned types: error %w", err)
		}
		o.Drops = event.DropsDriver
	}
	tracer, err := Start(ctx, o)
	if err != nil {
		return err
	}
	err = sentOverLoopback(ctx, tracer)
	return errors.Join(err, tracer.Close())
}

// sentOverLoopback sends a datagram to a port that nobody has, and looks for it in the counts.
func sentOverLoopback(ctx context.Context, tracer *Tracer) error {
	socket, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		return err
	}
	defer socket.Close()
	if _, err := socket.Write(make([]byte, 1000)); err != nil {
		return err
	}
	totals, err := tracer.Totals(ctx)
	if err != nil {
		return err
	}
	if b := tracer.Choice().Backend; b != event.Tracepoint {
		return fmt.Errorf("backend %s", b)
	}
	if lo := totals.Interfaces[0]; lo.Packets == 0 || lo.Bytes < 1042 || lo.Slots[1] == 0 {
		return fmt.Errorf("counted %+v, want a frame of 1042 bytes", lo.Counts)
	}
	if tracer.holders.loaded() == nil {
		return errors.New("an iterator was loaded without the kernel's types")
	}
	return nil
}
