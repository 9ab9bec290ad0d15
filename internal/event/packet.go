package event

import (
	"errors"
	"net/netip"
	"time"
)

// A Packet is the record of one packet that went wrong: what it was when
// xennet_start_xmit was handed it, and what became of it. Nothing in it was
// read after the packet may have been freed.
type Packet struct {
	Time time.Time // when the driver was handed the packet; taken in the kernel
	CPU  int

	Layer     Layer
	Interface Device // outside the driver: the one that the packet was on its way to
	Queue     int    // the packet's transmit queue mapping

	Verdict Verdict
	Cause   Cause // CauseNone unless Verdict is Dropped

	Slots int // slots the driver counted for the packet: head and all fragments
	Limit int // slots the driver accepts for one packet

	Len        int // skb->len in bytes, headers included
	HeadOffset int // where in its page the linear part starts, in bytes
	HeadLen    int // bytes in the linear part
	Frags      []Frag

	GSOSize int // payload bytes of each segment, 0 for a packet that is not GSO
	GSOSegs int

	// Reason is why the kernel dropped the packet outside the driver, as its own
	// trace output names it; empty for the driver's drops, and where it reports none.
	Reason string
	// Stack is where that was, "function+0xoffset [module]", innermost first. With
	// Options.Stacks it is also the stack of the call that sent the packet, whatever
	// went wrong: after the kernel's functions those of the program,
	// "function+0xoffset (file)". Empty without either, where no call sent the
	// packet, and where kernel addresses are hidden.
	Stack []string

	EtherType uint16 // of the packet after VLAN tags; 0 if unknown
	// Header is the packet's first bytes, link header included, read while the packet
	// was whole; empty unless Options.Snap asks for them. Where the packet has no link
	// header (a tunnel's device, or dropped before it got one) an Ethernet header with
	// zero addresses stands for it, which Len does not count.
	Header []byte

	Flow *Flow // nil for a packet that is neither IPv4 nor IPv6
	// Inner is the flow of the packet that this one carries, if it is a tunnel (VXLAN,
	// Geneve, GRE, IPIP, SIT) or an MPLS or PPPoE frame. Of a local connection whose packets do not show it, such as
	// encrypted ones, it is that of the socket, without sequence numbers.
	Inner *Flow
	// BeforeNAT has the addresses that the packet came with, by connection tracking; nil
	// without NAT, and where that is not known. It has no sequence number.
	BeforeNAT *Flow
	TCP       *TCP // nil unless the packet belongs to a full TCP socket of this machine

	Socket *Socket // nil unless the packet belongs to a full socket of this machine

	// Sender is the process that was sending the packet when it was handed to the
	// driver, if that is sure: it ran by itself, not under an interrupt, and holds the
	// packet's socket. nil for the many packets that are sent otherwise.
	Sender *Task

	// Process is the owner of the socket; nil if unknown. The tracer leaves it nil.
	Process *Process
}

// A Process is the owner of a socket.
type Process struct {
	PID       int
	Comm      string // as the process calls itself: any bytes
	UID       uint32 // of the socket
	Unit      string // systemd unit, by its cgroup; "" if none
	Container string // id of the container, by its cgroup; "" if none
}

// A Layer is where a packet went wrong. Its text is the JSON value.
type Layer uint8

// The layers.
const (
	LayerDriver    Layer = iota
	LayerElsewhere       // in the kernel, on its way to the driver
)

func (l Layer) String() string {
	if l == LayerElsewhere {
		return "elsewhere"
	}
	return "driver"
}

// A Device names an interface as it was when it was last looked up. Index and
// NetNS identify it; the name may change.
type Device struct {
	Name  string `json:"ifname,omitempty"`
	Index int    `json:"ifindex,omitempty"`
	NetNS uint32 `json:"netns,omitempty"` // inode number of the network namespace
}

// A Frag is one fragment of a packet: skb_shared_info.frags[i].
type Frag struct {
	Offset uint32 // where it starts in its page or compound page, in bytes
	Size   uint32 // in bytes
}

// A Flow is the 5-tuple in the packet's own headers. A fragment that is not the
// first has ports 0, and so have protocols without ports.
type Flow struct {
	Proto       uint8 // IPPROTO_*
	Source      netip.AddrPort
	Destination netip.AddrPort
	Seq         uint32 // of TCP, from the packet's header
	SeqKnown    bool   // also for packets that no socket of this machine sent
	// SeqLength is how many sequence numbers the packet uses: its payload in bytes,
	// and one each for SYN and FIN. 0 of a bare acknowledgement, and where Seq is not known.
	SeqLength uint32
}

// TCP is the state of the sending socket at the moment of the record.
type TCP struct {
	State       uint8  // TCP_ESTABLISHED and so on
	Seq         uint32 // sequence number in the packet's TCP header; SndUna where that is not visible
	SndUna      uint32
	SndNxt      uint32
	WriteSeq    uint32
	Retransmits int           // icsk_retransmits: resets on progress
	RTO         time.Duration // retransmission timeout now in force
	SRTT        time.Duration // smoothed round trip time
	SndQBytes   uint32        // write_seq - snd_una: written and not acknowledged
	Backoff     int           // icsk_backoff: how often RTO was doubled
	// TotalRetransmits is total_retrans: segments retransmitted in the life of the
	// connection.
	TotalRetransmits uint32
	// BytesAcked is bytes_acked, which moves as snd_una does and does not wrap:
	// the two map what sock_diag reports to sequence numbers.
	BytesAcked uint64
}

// A Socket is the one that a packet belongs to, as far as the BPF program sees it.
type Socket struct {
	Address uint64 // of struct sock: identifies a socket while it lives
	Cookie  uint64 // sk_cookie; 0 until the kernel is asked for one
	Inode   uint64 // of sockfs, as in /proc/PID/fd; 0 if no file leads to the socket, as to the kernel's own
	Cgroup  uint64 // id in the cgroup v2 hierarchy; 0 if unknown
	UID     uint32 // sk_uid: who made the socket, in the initial user namespace
	Hash    uint32 // sk_hash: of a connection's addresses and ports; the same as long as it lasts
}

// A Connection is how a TCP socket stood at one moment.
type Connection struct {
	Time  time.Time
	Ended bool // the connection is over: TCP is how it stood at its end
	Known bool // TCP is known; not where it ended before it was followed
	TCP   TCP  // without Seq
}

// A Task is a process as the BPF programs see it.
type Task struct {
	PID     int           // in the initial PID namespace
	Comm    string        // of its first thread: any bytes
	Started time.Duration // after boot, by CLOCK_BOOTTIME; with PID it identifies a process
	Cgroup  uint64        // id in the cgroup v2 hierarchy
}

// A Holder is a process with a file descriptor of a socket.
type Holder struct {
	Inode uint64  // of the socket
	Flow  FlowKey // of the socket, without a namespace; zero unless flows were asked for
	UID   uint32  // likewise, as Socket.UID
	Task
}

// Wanted are the sockets whose holders are looked for, at most MaxWanted of each kind.
type Wanted struct {
	Inodes []uint64
	Flows  []FlowKey // connected sockets in whichever network namespace: NetNS is 0
}

// MaxWanted is how many sockets of one kind the kernel can be asked about at once.
const MaxWanted = 1024

// ErrNotLoaded: the programs that read connections are not loaded, or not yet.
var ErrNotLoaded = errors.New("programs that read connections are not loaded")
