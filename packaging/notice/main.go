// Notice writes what NOTICE holds: the licences of the software that the binaries of
// xentrace are linked with. "make notice" runs it.
package main

import (
	"fmt"
	"os"
)

func main() {
	text, err := notice(".")
	if err == nil {
		_, err = os.Stdout.WriteString(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "notice:", err)
		os.Exit(1)
	}
}
