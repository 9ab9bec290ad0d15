package leak

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// BPF are the BPF objects that a process holds, by their ids.
type BPF struct{ Programs, Links, Maps []uint32 }

// BPFOf reads them from the descriptors of a process.
func BPFOf(t testing.TB, pid int) BPF {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	var b BPF
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		b.add(string(text))
	}
	return b
}

func (b *BPF) add(text string) {
	ids := make(map[string]uint32)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
			ids[name] = uint32(id)
		}
	}
	switch {
	case ids["link_id"] != 0: // fdinfo of a link has its program too
		b.Links = append(b.Links, ids["link_id"])
	case ids["prog_id"] != 0:
		b.Programs = append(b.Programs, ids["prog_id"])
	case ids["map_id"] != 0:
		b.Maps = append(b.Maps, ids["map_id"])
	}
}

// An opener opens an object of one kind by its id.
type opener func(uint32) (io.Closer, error)

// Left waits until none of them is there any more, and returns those that still are. The
// kernel frees them a moment after the last descriptor is closed.
func (b BPF) Left(t testing.TB) []string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	var left []string
	wait := func(kind string, ids []uint32, open opener) {
		for _, id := range ids {
			for there(t, id, open) {
				if time.Now().After(deadline) {
					left = append(left, fmt.Sprintf("%s %d", kind, id))
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	wait("program", b.Programs, func(id uint32) (io.Closer, error) { return ebpf.NewProgramFromID(ebpf.ProgramID(id)) })
	wait("link", b.Links, func(id uint32) (io.Closer, error) { return link.NewFromID(link.ID(id)) })
	wait("map", b.Maps, func(id uint32) (io.Closer, error) { return ebpf.NewMapFromID(ebpf.MapID(id)) })
	return left
}

func there(t testing.TB, id uint32, open opener) bool {
	object, err := open(id)
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := object.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}
