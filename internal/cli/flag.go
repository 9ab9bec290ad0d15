package cli

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"xentrace/internal/event"
	"xentrace/internal/filter"
	"xentrace/internal/fix"
	"xentrace/internal/trace"
)

// settings holds the value of every flag of every command.
type settings struct {
	interfaces []string
	backend    string
	format     string
	duration   time.Duration
	color      string
	verbose    bool
	readyFile  string
	wait       bool
	rejected   bool
	stack      bool
	ringBytes  int
	count      int
	exitCode   bool
	live       bool
	driverFile string
	ec2rl      bool
	observe    time.Duration
	drops      string
	dropsHook  string
	filter     filter.Filter
	to         netip.AddrPort // valid if the user named it
	slots      int            // of a probe, 0 for any number over the limit
	ipv4, ipv6 bool
	probe      bool // this is a probe
	apply      bool
	revert     bool
	steps      []string
	persist    string
	force      bool
	watch      time.Duration
	noProbe    bool
	state      string
	help       bool

	durationGiven bool   // with --duration, rather than the command's own
	everySecond   bool   // of congestion: tell the figures of each second
	baseline      string // of congestion: what an earlier run wrote
}

func defaults() settings {
	return settings{
		backend:   string(event.Auto),
		format:    "text",
		color:     "auto",
		ringBytes: trace.DefaultRingBytes,
		watch:     5 * time.Second,
		state:     fix.DefaultState,
		drops:     string(event.DropsDriver),
		dropsHook: string(trace.DropsTracepoint),
	}
}

// What a flag's value completes to, where it is not one of a few words.
type completes int

const (
	nothing completes = iota
	interfaceNames
	fileNames
)

// A flag is what the command line, help, completion and manual pages know of
// one.
type flag struct {
	name      string
	short     string // one letter, or none
	value     string // what the value is called in help; "" for a switch
	usage     string
	initial   string    // the value it has if it is not given, in words; "" for none
	words     []string  // the values it may have, where they are few
	completes completes // else
	bind      func(*settings) pflag.Value
}

// describe is the usage with the values that the flag may have and the one that
// it has if it is not given.
func (f *flag) describe() string {
	text := f.usage
	if n := len(f.words); n > 0 {
		text += ": " + strings.Join(f.words[:n-1], ", ") + " or " + f.words[n-1]
	}
	if f.initial != "" {
		text += " (default: " + f.initial + ")"
	}
	return text
}

func (f *flag) add(set *pflag.FlagSet, s *settings) {
	added := set.VarPF(f.bind(s), f.name, f.short, f.usage)
	if f.value == "" {
		added.NoOptDefVal = "true"
	}
}

// A value is a pflag.Value made of one function.
type value struct {
	set  func(string) error
	kind string
	text string
}

func (v *value) String() string { return v.text }
func (v *value) Type() string   { return v.kind }
func (v *value) Set(text string) error {
	if err := v.set(text); err != nil {
		return err
	}
	v.text = text
	return nil
}

func switchValue(target func(*settings) *bool) func(*settings) pflag.Value {
	return func(s *settings) pflag.Value {
		return &value{kind: "bool", set: func(text string) (err error) {
			*target(s), err = strconv.ParseBool(text)
			return err
		}}
	}
}

func wordValue(words []string, target func(*settings) *string) func(*settings) pflag.Value {
	return func(s *settings) pflag.Value {
		return &value{kind: "word", set: func(text string) error {
			for _, w := range words {
				if w == text {
					*target(s) = text
					return nil
				}
			}
			return fmt.Errorf("not one of %s", strings.Join(words, ", "))
		}}
	}
}

func interfaceValue(s *settings) pflag.Value {
	return &value{kind: "name", set: func(text string) error {
		if text == "" {
			return errors.New("no name")
		}
		for _, name := range s.interfaces {
			if name == text {
				return nil
			}
		}
		s.interfaces = append(s.interfaces, text)
		return nil
	}}
}

func durationValue(s *settings) pflag.Value {
	return &value{kind: "duration", set: func(text string) error {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return errors.New("not a duration such as 30s or 5m")
		case d < 0:
			return errors.New("negative")
		}
		s.duration, s.durationGiven = d, true
		return nil
	}}
}

func observeValue(s *settings) pflag.Value {
	return &value{kind: "duration", set: func(text string) error {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return errors.New("not a duration such as 5s or 1m")
		case d <= 0:
			return errors.New("not longer than nothing")
		}
		s.observe = d
		return nil
	}}
}

func pathValue(target func(*settings) *string) func(*settings) pflag.Value {
	return func(s *settings) pflag.Value {
		return &value{kind: "path", set: func(text string) error {
			if text == "" {
				return errors.New("no path")
			}
			*target(s) = text
			return nil
		}}
	}
}

func countValue(s *settings) pflag.Value {
	return &value{kind: "number", set: func(text string) error {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil:
			return errors.New("not a whole number")
		case n < 1:
			return errors.New("less than 1")
		}
		s.count = n
		return nil
	}}
}

func ringValue(s *settings) pflag.Value {
	return &value{kind: "bytes", set: func(text string) (err error) {
		s.ringBytes, err = parseRingSize(text)
		return err
	}}
}

// maxRingBytes is far below what the kernel takes; the ring is locked memory.
const maxRingBytes = 1 << 30

// parseRingSize reads a size in bytes, KiB or MiB that a ring buffer can have.
func parseRingSize(text string) (int, error) {
	number, unit := text, 1
	for suffix, bytes := range map[string]int{"KiB": 1 << 10, "MiB": 1 << 20} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = rest, bytes
		}
	}
	n, err := strconv.Atoi(number)
	page := os.Getpagesize()
	switch {
	case err != nil:
		return 0, errors.New("not a size such as 4194304, 512KiB or 4MiB")
	case n <= 0 || n > maxRingBytes/unit:
		return 0, errors.New("not between one page and 1024MiB")
	case bits.OnesCount(uint(n*unit)) != 1:
		return 0, errors.New("not a power of two")
	case n*unit < page:
		return 0, fmt.Errorf("less than a page, which is %d bytes here", page)
	}
	return n * unit, nil
}
