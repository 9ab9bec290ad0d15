// Package rocket makes packets that need many ring slots of a Xen network
// frontend, on purpose, and ordinary packets beside them, for probes,
// demonstrations and tests. It needs no privilege.
//
// A slot is one 4 KiB page of a packet's memory. What a program writes to a TCP
// or a corked UDP socket is copied into a page fragment of its thread
// (sk_page_frag: a 32 KiB block, used up front to back and shared by all of the
// thread's sockets). So a thread that corks a socket and writes small pieces to
// it, and between two pieces moves the fragment on by writing to another socket,
// decides where each piece lies: here always across a page boundary, two slots
// for a few bytes. The writing between goes to a TCP connection to itself over
// loopback, and is read back after.
//
// Each sender has a thread of its own, whose fragment begins empty, and leaves it
// at the start of a block after each packet: so the places are known exactly. Two
// things take the effect away: a device without scatter-gather, for which the
// kernel copies everything into one piece, and net.core.high_order_alloc_disable
// or a shortage of memory, which make the fragment a single page
// ([ErrSinglePages] for UDP).
package rocket
