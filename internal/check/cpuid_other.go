//go:build !amd64

package check

// cpuSignature is empty: only x86 has such a thing.
func cpuSignature() string { return "" }
