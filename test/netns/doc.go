// Package netns tests xentrace from outside, as a user runs it, on real packets
// in network namespaces of the tests' own. It needs root and nothing else: no
// Xen, no interface of the machine.
package netns
