// Caller prints the return addresses of a chain of calls, and waits until its
// standard input ends. It imports little: it is built in three ways, one of which
// needs the standard library compiled anew.
package main

import (
	"runtime"
	"syscall"
)

func main() {
	if _, many := syscall.Getenv("MAPPINGS"); many {
		mapOften()
	}
	outer()
}

// mapOften maps the program as often as the kernel allows. Every other mapping cannot be
// written to, so that none is merged with the next.
func mapOften() {
	file, err := syscall.Open("/proc/self/exe", syscall.O_RDONLY, 0)
	for n := 0; err == nil && n < 65_000; n++ {
		_, err = syscall.Mmap(file, int64(n%2)*4096, 4096, syscall.PROT_READ|syscall.PROT_EXEC|n%2*syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	}
}

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
