// Package netdev tells what the network interfaces of this machine are, in any
// network namespace: driver, MTU, queues, features, counters, and how they come,
// go, change their name and move.
//
// A namespace is named by the inode number that the kernel keeps in
// net->ns.inum and that stat(2) of /proc/PID/ns/net shows. Nothing here needs a
// privilege for the namespace of the caller; other namespaces need
// CAP_SYS_ADMIN, as setns(2) does.
//
// An interface's name is whatever its namespace's administrator chose, escape
// sequences included: print [Interface.String], not [Interface.Name].
package netdev
