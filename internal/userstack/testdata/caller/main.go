// Caller prints the return addresses of a chain of calls, and waits until its
// standard input ends.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
)

func main() { outer() }

//go:noinline
func outer() { inner(); fmt.Print() }

//go:noinline
func inner() {
	addresses := make([]uintptr, 3)
	for _, address := range addresses[:runtime.Callers(1, addresses)] {
		fmt.Printf("%#x ", address)
	}
	fmt.Println()
	_, _ = io.Copy(io.Discard, os.Stdin)
}
