package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"xentrace/test/xen/peer/counts"
)

// vifDir is the sysfs directory of the guest's vif; dom0's vif script links it.
const vifDir = "/run/vif"

// control answers commands about the ledger, the vif and the guest.
type control struct {
	ledger *ledger
	vif    string // sysfs directory of the interface
	deeds  *deeds
}

// answer handles one control connection.
func (c control) answer(conn *net.TCPConn) {
	lines := bufio.NewScanner(conn)
	out := json.NewEncoder(conn)
	for lines.Scan() {
		if err := out.Encode(c.command(lines.Text())); err != nil {
			return
		}
	}
}

// command carries out one command.
func (c control) command(line string) counts.Counts {
	var err error
	reset := false
	switch word, argument, _ := strings.Cut(strings.TrimSpace(line), " "); word {
	case "counts":
	case "reset":
		reset = true
	case "mtu":
		err = os.WriteFile(filepath.Join(c.vif, "mtu"), []byte(argument), 0)
	case "do":
		err = c.deeds.begin(strings.Fields(argument))
	default:
		err = fmt.Errorf("no command %q", word)
	}
	answer := counts.Counts{Sinks: c.ledger.read(reset), Vif: map[string]uint64{}}
	answer.Doing, answer.Done, answer.Failed = c.deeds.state()
	if err == nil {
		err = c.readVif(&answer)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	return answer
}

// readVif fills in the vif's counters and MTU.
func (c control) readVif(answer *counts.Counts) error {
	files, err := filepath.Glob(filepath.Join(c.vif, "statistics", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		value, err := readNumber(file)
		if err != nil {
			return err
		}
		answer.Vif[filepath.Base(file)] = value
	}
	mtu, err := readNumber(filepath.Join(c.vif, "mtu"))
	answer.MTU = int(mtu)
	return err
}

func readNumber(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}
