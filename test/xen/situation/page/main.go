// Page turns what the guest tests wrote of situations into one page, and fails if in one
// of them check and the experiment do not agree, or if there are too few.
//
//	page [-write FILE] LOG...
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"xentrace/test/xen/situation"
)

// least is how many situations there must be.
const least = 12

func main() {
	write := flag.String("write", "", "the file for the page")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Args(), *write); err != nil {
		fmt.Fprintf(os.Stderr, "page: %v\n", err)
		os.Exit(1)
	}
}

func run(out io.Writer, logs []string, file string) error {
	var all []situation.Situation
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		some, err := situation.Parse(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", log, err)
		}
		if len(some) == 0 {
			return fmt.Errorf("%s has no situation", log)
		}
		all = append(all, some...)
	}
	for _, s := range all {
		if s.SGMTU.Right != s.SGMTUIsRight() || s.Rocket.Right != s.RocketIsRight() {
			return fmt.Errorf("check is not right in %+v", s)
		}
	}
	if len(all) < least {
		return fmt.Errorf("%d situations, want at least %d", len(all), least)
	}
	fmt.Fprintf(out, "%d situations; check is right in all of them\n", len(all))
	if file == "" {
		return nil
	}
	var page strings.Builder
	writePage(&page, all)
	return os.WriteFile(file, []byte(page.String()), 0o644)
}
