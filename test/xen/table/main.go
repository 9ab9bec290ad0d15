// Table turns the output of the truth matrix's runs into one table, and fails if a
// cell of it is red or missing.
//
//	table [-kernels 5.10,6.1,...] [-write FILE] DIR
//
// DIR holds what the runs wrote, KERNEL.log for each. With -write the table is
// written to the file, as Markdown, if no cell stands against it.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"xentrace/test/xen/cell"
)

func main() {
	kernels := flag.String("kernels", strings.Join(cell.Kernels, ","), "the kernels that were run")
	write := flag.String("write", "", "the file for the table")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Arg(0), strings.Split(*kernels, ","), *write); err != nil {
		fmt.Fprintf(os.Stderr, "table: %v\n", err)
		os.Exit(1)
	}
}

// run reads the runs' output and writes the table, or what stands against it.
func run(out io.Writer, dir string, kernels []string, file string) error {
	m := newMatrix(kernels)
	for _, kernel := range kernels {
		text, err := os.ReadFile(filepath.Join(dir, kernel+".log"))
		if err != nil {
			return err
		}
		if err := m.read(string(text)); err != nil {
			return err
		}
	}
	if faults := m.faults(); len(faults) > 0 {
		for _, fault := range faults {
			fmt.Fprintln(out, fault)
		}
		return fmt.Errorf("%d cells are red or missing", len(faults))
	}
	agree, impossible := m.numbers()
	fmt.Fprintf(out, "truth matrix: %d cells agree, %d cannot exist, none is red or missing\n", agree, impossible)
	if file == "" {
		return nil
	}
	var page strings.Builder
	m.page(&page)
	return os.WriteFile(file, []byte(page.String()), 0o644)
}
