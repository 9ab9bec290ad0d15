package cli

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/filter"
	"xentrace/internal/filter/expression"
	"xentrace/internal/kernel"
)

type value struct {
	set  func(string) error
	kind string // what it is called in help
	text string // shown as the default, then what was set
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

type complete = cobra.CompletionFunc

// parsed defines a flag whose value is read by a function. initial is shown as the default,
// which is what to points to.
func parsed[T any](c *cobra.Command, to *T, name, short, kind, initial, usage string, parse func(string) (T, error)) {
	define(c, name, short, usage, cobra.NoFileCompletions, &value{kind: kind, text: initial, set: func(text string) (err error) {
		*to, err = parse(text)
		return err
	}})
}

const repeatable = " (repeatable)"

// list defines a flag that may be repeated.
func list[T comparable](c *cobra.Command, to *[]T, name, short, kind, usage string, completes complete, parse func(string) (T, error)) {
	define(c, name, short, usage+repeatable, completes, &value{kind: kind, set: func(text string) error {
		one, err := parse(text)
		if err == nil && !slices.Contains(*to, one) {
			*to = append(*to, one)
		}
		return err
	}})
}

func define(c *cobra.Command, name, short, usage string, completes complete, v *value) {
	c.Flags().VarP(v, name, short, usage)
	_ = c.RegisterFlagCompletionFunc(name, completes) // fails only for a flag that is not defined
}

// toggle defines a flag without a value.
func toggle(c *cobra.Command, to *bool, name, short, usage string) {
	flag := c.Flags().VarPF(&value{kind: "bool", text: "false", set: func(text string) (err error) {
		if *to, err = strconv.ParseBool(text); err != nil {
			return errors.New("not true or false")
		}
		return nil
	}}, name, short, usage)
	flag.NoOptDefVal = "true"
}

// word defines a flag that has one of a few values; the default is what to points to. They
// are appended to a usage that does not name them.
func word(c *cobra.Command, to *string, name, short, kind, usage string, words ...string) {
	if !strings.Contains(usage, words[0]) {
		usage += ": " + strings.Join(words, ", ")
	}
	define(c, name, short, usage, fixed(words...), &value{kind: kind, text: *to, set: func(text string) error {
		if !slices.Contains(words, text) {
			return fmt.Errorf("not one of %s", strings.Join(words, ", "))
		}
		*to = text
		return nil
	}})
}

func path(c *cobra.Command, to *string, name, short, usage string) {
	define(c, name, short, usage, nil, &value{kind: "PATH", text: *to, set: func(text string) error {
		if text == "" {
			return errors.New("empty path")
		}
		*to = text
		return nil
	}})
}

func fixed(words ...string) complete {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

// maxInterfaces is how many interfaces the BPF programs count separately.
const maxInterfaces = 64

// interfaceFlag selects interfaces.
func interfaceFlag(c *cobra.Command, to *[]string, usage string) {
	list(c, to, "interface", "i", "NAME", usage, interfaceNames, func(text string) (string, error) {
		switch {
		case text == "":
			return "", errors.New("empty name")
		case len(*to) == maxInterfaces && !slices.Contains(*to, text):
			return "", fmt.Errorf("more than %d interfaces; run one xentrace for each %d", maxInterfaces, maxInterfaces)
		}
		return text, nil
	})
}

// interfaceNames are those of the caller's network namespace.
func interfaceNames(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	entries, _ := os.ReadDir("/sys/class/net")
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

var digits = regexp.MustCompile("[0-9]+")

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	_, malformed := time.ParseDuration(digits.ReplaceAllString(text, "1"))
	switch {
	case err != nil && malformed == nil:
		return 0, errors.New("too long; the limit is 2562047h (292 years)")
	case err != nil:
		return 0, errors.New("not a duration such as 30s or 5m")
	case d < 0:
		return 0, errors.New("must be >= 0")
	}
	return d, nil
}

func parseCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	switch {
	case errors.Is(err, strconv.ErrRange) && n > 0:
		return 0, fmt.Errorf("too large; the limit is %d", math.MaxInt)
	case err != nil && n == 0:
		return 0, errors.New("not a whole number")
	case n < 1:
		return 0, errors.New("must be >= 1")
	}
	return n, nil
}

// maxRingBytes is far below the kernel's limit; the ring is locked memory.
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
	case errors.Is(err, strconv.ErrSyntax):
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

// userFlag chooses the user that a command becomes once attached.
func userFlag(c *cobra.Command, to *kernel.User) {
	initial := strconv.Itoa(to.UID)
	if to.UID == 0 {
		initial = "root"
	}
	parsed(c, to, "user", "", "USER", initial, "user to run as once attached", parseUser)
}

// parseUser reads a name or a uid. A uid without an entry in /etc/passwd has the gid of the
// same number.
func parseUser(text string) (kernel.User, error) {
	found, err := user.Lookup(text)
	if err != nil {
		found, err = user.LookupId(text)
	}
	if err != nil {
		const most = 1<<32 - 2 // the last one means "do not change"
		uid, err := strconv.ParseUint(text, 10, 32)
		if err != nil || uid > most {
			return kernel.User{}, errors.New("no such user")
		}
		return kernel.User{UID: int(uid), GID: int(uid)}, nil
	}
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return kernel.User{}, errors.New("the user has no number")
	}
	gid, err := strconv.Atoi(found.Gid)
	return kernel.User{UID: uid, GID: gid}, err
}

// expressionSnap is how many bytes of a packet are read for an expression: its headers.
const expressionSnap = 96

// expressionArgument accepts a pcap filter as the rest of the command line.
func expressionArgument(f *filter.Filter) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error { return compileExpression(f, args) }
}

// compileExpression sets the filter's expression; words that are all empty are none.
func compileExpression(f *filter.Filter, words []string) error {
	text := strings.Join(words, " ")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	compiled, err := expression.Compile(text)
	if err != nil {
		return usageError{fmt.Errorf("filter expression: %w", err)}
	}
	f.Expression = compiled
	return nil
}
