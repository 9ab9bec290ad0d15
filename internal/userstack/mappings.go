package userstack

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxMapsBytes bounds what is read of /proc/PID/maps: vm.max_map_count's default of
// 65,530 mappings with ordinary names is less.
const maxMapsBytes = 16 << 20

type mapping struct {
	start, end uint64
	offset     uint64 // of its first byte in the file
	inode      uint64 // 0 for one of no file
	path       string // in the process's own root
}

// readMappings returns the executable mapping of each address; nil where there is none.
func readMappings(path string, addresses []uint64) ([]*mapping, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("mappings: %w", err)
	}
	defer file.Close()
	found := make([]*mapping, len(addresses))
	lines := bufio.NewScanner(io.LimitReader(file, maxMapsBytes))
	lines.Buffer(nil, 16<<10) // a name is at most PATH_MAX long, and up to four times that if it is escaped
	for lines.Scan() {
		m, ok := parseMapping(lines.Text())
		if !ok {
			continue
		}
		for i, address := range addresses {
			if address > m.start && address <= m.end { // a call may be the last instruction
				found[i] = &m
			}
		}
	}
	return found, lines.Err()
}

func parseMapping(line string) (mapping, bool) {
	fields := strings.SplitN(line, " ", 6)
	if len(fields) < 6 || !strings.Contains(fields[1], "x") {
		return mapping{}, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	var m mapping
	var errs [4]error
	m.start, errs[0] = strconv.ParseUint(first, 16, 64)
	m.end, errs[1] = strconv.ParseUint(last, 16, 64)
	m.offset, errs[2] = strconv.ParseUint(fields[2], 16, 64)
	m.inode, errs[3] = strconv.ParseUint(fields[4], 10, 64)
	for _, err := range errs {
		if err != nil {
			return mapping{}, false
		}
	}
	m.path = strings.TrimSuffix(strings.TrimLeft(fields[5], " "), " (deleted)")
	if m.path == "" {
		m.path = "[anonymous]"
	}
	return m, true
}
