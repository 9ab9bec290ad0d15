// Package kernel tells what the running kernel is: its symbols, its types, what
// lockdown and missing capabilities forbid, and what the code of its
// xen-netfront does with a packet of too many slots.
//
// Every fact comes from the kernel that is asked, none from a table of
// versions. The release number serves messages only.
package kernel
