package userstack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/procfs"
)

const (
	// maxMapsBytes bounds what is read of /proc/PID/maps: vm.max_map_count's default of
	// 65,530 mappings with ordinary names is less.
	maxMapsBytes = 16 << 20

	// mappingsAge is how long mappings are believed. An address that is in none of them is
	// looked for again after rereadAfter.
	mappingsAge = time.Second
	rereadAfter = 100 * time.Millisecond

	// maxMappingsBytes bounds the cache, which is cleared when full.
	maxMappingsBytes = 4 << 20
	sizeOfProcess    = 256
	sizeOfMapping    = 128 // without the path
)

type mapping struct {
	start, end uint64
	offset     uint64 // of its first byte in the file
	inode      uint64 // 0 for one of no file
	path       string // in the process's own root

	file   *fileVersion // when it was last opened
	failed bool         // it could not be opened
}

// A process is one whose frames were named, with those of its mappings that had addresses
// asked for.
type process struct {
	started  time.Duration // since boot, in ticks
	read     time.Time
	mappings []*mapping
}

// find returns the mapping of each address, and whether all are known.
func (p *process) find(addresses []uint64) (found []*mapping, all bool) {
	found, all = make([]*mapping, len(addresses)), true
	for i, address := range addresses {
		for _, m := range p.mappings {
			if m.holds(address) {
				found[i] = m
			}
		}
		all = all && found[i] != nil
	}
	return found, all
}

// holds reports whether a return address is of a call in the mapping, which may be its last
// instruction.
func (m *mapping) holds(address uint64) bool { return address > m.start && address <= m.end }

// mappings returns the executable mapping of each address of a call; nil where there is
// none, or where its user may not cause more to be read now.
func (n *Namer) mappings(c *Call) []*mapping {
	p, now := n.processes[c.PID], n.now()
	if p != nil && (now.Sub(p.read) >= mappingsAge || !n.isSame(p, c)) {
		p = nil
	}
	found := make([]*mapping, len(c.Addresses))
	if p != nil {
		known, all := p.find(c.Addresses)
		if all || now.Sub(p.read) < rereadAfter {
			return known
		}
		found = known
	}
	if !n.budget.allows(c.UID) {
		return found
	}
	p, bytes, err := n.readProcess(c)
	n.budget.charge(c.UID, workOfMaps*bytes+workOfFile)
	if err != nil {
		return make([]*mapping, len(c.Addresses))
	}
	n.remember(c.PID, p)
	found, _ = p.find(c.Addresses)
	return found
}

// isSame reports whether a call is of the process, whose PID may have been reused.
func (n *Namer) isSame(p *process, c *Call) bool {
	if c.Started != 0 {
		return c.Started.Truncate(procfs.Tick) == p.started
	}
	started, err := n.running.StartTime(c.PID)
	return err == nil && started == p.started && uint64(started) <= c.At
}

var errReused = errors.New("process exited, its PID was reused")

// readProcess also returns how much it read.
func (n *Namer) readProcess(c *Call) (*process, int, error) {
	p := &process{read: n.now()}
	type result struct {
		mappings []*mapping
		bytes    int
	}
	r, err := procfs.Guard(n.running, c.PID, func() (result, error) {
		mappings, bytes, err := readMappings(n.running.Path(c.PID, "maps"), c.Addresses)
		return result{mappings, bytes}, err
	}, nil)
	if err != nil {
		return nil, r.bytes, err
	}
	// Afterwards: this reveals a PID that was reused in between.
	if p.started, err = n.running.StartTime(c.PID); err != nil {
		return nil, r.bytes, err
	}
	if uint64(p.started) > c.At || c.Started != 0 && c.Started.Truncate(procfs.Tick) != p.started {
		return nil, r.bytes, errReused
	}
	p.mappings = r.mappings
	return p, r.bytes, nil
}

// remember keeps what was read of a process, and what is known of its files: one that is
// mapped at the same place is the same.
func (n *Namer) remember(pid int, p *process) {
	if old := n.processes[pid]; old != nil && old.started == p.started {
		for _, m := range p.mappings {
			m.inherit(old.mappings)
		}
	}
	size := sizeOfProcess
	for _, m := range p.mappings {
		size += sizeOfMapping + len(m.path)
	}
	if n.cached += size; n.cached > maxMappingsBytes {
		clear(n.processes)
		n.cached = size
	}
	n.processes[pid] = p // the one before stays counted until all are cleared
}

func (m *mapping) inherit(mappings []*mapping) {
	for _, old := range mappings {
		if old.start == m.start && old.offset == m.offset && old.inode == m.inode && old.path == m.path {
			m.file = old.file
		}
	}
}

// readMappings returns the executable mappings that addresses are in, and how many bytes it
// read.
func readMappings(path string, addresses []uint64) (found []*mapping, read int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("mappings: %w", err)
	}
	defer file.Close()
	return parseMappings(io.LimitReader(file, maxMapsBytes), addresses)
}

func parseMappings(maps io.Reader, addresses []uint64) (found []*mapping, read int, err error) {
	for line, err := range procfs.Lines(maps) {
		if err != nil {
			return nil, read, err
		}
		read += len(line) + 1
		m, ok := parseRange(line)
		if !ok {
			continue
		}
		for _, address := range addresses {
			if m.holds(address) {
				if whole, ok := parseMapping(string(line)); ok {
					found = append(found, whole)
				}
				break
			}
		}
	}
	return found, read, nil
}

// parseRange parses the range of a mapping alone: few of them are asked for.
func parseRange(line []byte) (m mapping, ok bool) {
	addresses, _, _ := bytes.Cut(line, []byte{' '})
	first, last, _ := bytes.Cut(addresses, []byte{'-'})
	start, firstErr := strconv.ParseUint(string(first), 16, 64)
	end, lastErr := strconv.ParseUint(string(last), 16, 64)
	return mapping{start: start, end: end}, firstErr == nil && lastErr == nil
}

func parseMapping(line string) (*mapping, bool) {
	fields := strings.SplitN(line, " ", 6)
	if len(fields) < 6 || !strings.Contains(fields[1], "x") {
		return nil, false
	}
	m, ok := parseRange([]byte(line))
	var errs [2]error
	m.offset, errs[0] = strconv.ParseUint(fields[2], 16, 64)
	m.inode, errs[1] = strconv.ParseUint(fields[4], 10, 64)
	if !ok || errs[0] != nil || errs[1] != nil {
		return nil, false
	}
	m.path = strings.TrimSuffix(strings.TrimLeft(fields[5], " "), " (deleted)")
	if m.path == "" {
		m.path = "[anonymous]"
	}
	return &m, true
}
