// Package probe sends one datagram of many slots out of an interface and finds out
// what became of it. Whoever calls it attaches the tracer; what is sent takes no privilege.
package probe
