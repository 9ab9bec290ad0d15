// Page makes docs/cost.md of what bench-xen measured, or compares that with the page.
//
//	page [-write FILE | -check] [-against FILE] KERNEL=LOG...
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"xentrace/test/xen/cost"
)

func main() {
	write := flag.String("write", "", "write the page to `FILE`; kernels that were not measured stay as they are there")
	check := flag.Bool("check", false, "fail if a row costs more than the page says")
	against := flag.String("against", "docs/cost.md", "the page to compare with")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Args(), *against, *write, *check); err != nil {
		fmt.Fprintf(os.Stderr, "page: %v\n", err)
		os.Exit(1)
	}
}

func run(out io.Writer, logs []string, against, write string, check bool) error {
	old, err := os.ReadFile(against)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	committed := parsePage(string(old))
	var sections []section
	var dearer []string
	for _, argument := range logs {
		kernel, file, _ := strings.Cut(argument, "=")
		results, err := cost.Read(file)
		if err != nil {
			return err
		}
		s := newSection(kernel, results)
		sections = append(sections, s)
		dearer = append(dearer, s.dearer(committed[kernel])...)
		s.write(out, committed[kernel])
	}
	if write != "" {
		var page bytes.Buffer
		writePage(&page, string(old), sections, committed)
		if err := os.WriteFile(write, page.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if check && len(dearer) > 0 {
		return fmt.Errorf("costs more than %s says; if that is meant, run make bench-xen and commit the page:\n%s", against, strings.Join(dearer, "\n"))
	}
	return nil
}
