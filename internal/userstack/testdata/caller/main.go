// Caller prints the return addresses of a chain of calls, and waits until its
// standard input ends. It imports little: it is built in three ways, one of which
// needs the standard library compiled anew.
package main

import (
	"runtime"
	"syscall"
)

func main() { outer() }

//go:noinline
func outer() { inner(); _, _ = syscall.Write(1, nil) }

//go:noinline
func inner() {
	addresses := make([]uintptr, 3)
	var line []byte
	for _, address := range addresses[:runtime.Callers(1, addresses)] {
		line = append(line, "0x"...)
		for shift := 60; shift >= 0; shift -= 4 {
			line = append(line, "0123456789abcdef"[address>>shift&15])
		}
		line = append(line, ' ')
	}
	_, _ = syscall.Write(1, append(line, '\n'))
	for {
		if n, err := syscall.Read(0, make([]byte, 1)); n == 0 || err != nil && err != syscall.EINTR {
			return
		}
	}
}
