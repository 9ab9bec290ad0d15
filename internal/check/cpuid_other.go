//go:build !amd64

package check

// processorSignature is empty: only x86 has such a thing.
func processorSignature() string { return "" }
