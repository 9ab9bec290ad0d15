// Package bench measures what xentrace costs, on real packets of a veth pair in
// network namespaces of its own, against an empty program on the same hook and
// against bpftrace doing the same job. Nothing is asserted of a time; the table
// that it writes at the end shows which goals were met.
//
// Its conditions take turns, so that whatever else the machine does meets them
// all, and what it prints are medians over the rounds. Run it as root:
//
//	make bench
package bench
