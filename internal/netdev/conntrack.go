package netdev

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Conntrack are counters of a network namespace's connection tracking.
type Conntrack struct {
	InsertFailed uint64 // packets dropped because their connection clashed with another's
	Dropped      uint64 // all that it dropped, also because the table was full
	EarlyDropped uint64 // entries that made room for others
}

// Conntrack reads them. It needs CAP_SYS_ADMIN for another namespace than the caller's.
func (ns *Namespace) Conntrack() (Conntrack, error) {
	var text []byte
	err := ns.Do(func() error {
		var err error
		text, err = os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
		return err
	})
	if err != nil {
		return Conntrack{}, fmt.Errorf("connection tracking of network namespace %d: %w", ns.inum, err)
	}
	return parseConntrack(string(text))
}

// parseConntrack reads a line of names and a line of hexadecimal numbers for each CPU.
func parseConntrack(text string) (Conntrack, error) {
	head, rest, _ := strings.Cut(text, "\n")
	names := strings.Fields(head)
	sums := make(map[string]uint64)
	for line := range strings.Lines(rest) {
		for n, field := range strings.Fields(line) {
			if n >= len(names) {
				break
			}
			count, err := strconv.ParseUint(field, 16, 32)
			if err != nil {
				return Conntrack{}, fmt.Errorf("connection tracking: %s: %w", names[n], err)
			}
			sums[names[n]] += count
		}
	}
	if _, there := sums["insert_failed"]; !there {
		return Conntrack{}, fmt.Errorf("connection tracking: no counter insert_failed")
	}
	return Conntrack{sums["insert_failed"], sums["drop"], sums["early_drop"]}, nil
}
