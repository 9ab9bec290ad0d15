// Package cost is what bench-xen measures: the rows of its tables, what the program in
// the guest reports of each, and the page that is made of it.
package cost

// Traffic is one kind of packet.
type Traffic string

// The kinds of packets.
const (
	UDP     Traffic = "udp"     // sent: 64 bytes of payload
	TCP     Traffic = "tcp"     // sent: segments of 1360 bytes in 17 fragments
	Receive Traffic = "receive" // received: 64 bytes of payload
)

// Recordings in an argument of a row stands for an empty directory of each start.
const Recordings = "RECORDINGS"

// A Row is one thing that is attached while packets are sent and received. Either Hooks,
// Args or Bpftrace says what.
type Row struct {
	Name     string
	Hooks    []string // empty programs: fentry, fexit, kprobe, kretprobe, start_xmit, xmit
	Args     []string // of xentrace
	Bpftrace string   // a script for the same job as hist: kprobe or tracepoint
	Fentry   bool     // needs BTF of the driver's module
	Checked  bool     // one of the few that --check measures and compares
	Reports  bool     // also measured: the cost of each reported packet
}

// Rows returns all rows in the order in which they are measured and printed.
func Rows() []Row {
	return []Row{
		{Name: "empty fentry", Hooks: []string{"fentry"}, Fentry: true},
		{Name: "empty fentry + fexit", Hooks: []string{"fentry", "fexit"}, Fentry: true},
		{Name: "empty kprobe", Hooks: []string{"kprobe"}},
		{Name: "empty kprobe + kretprobe", Hooks: []string{"kprobe", "kretprobe"}},
		{Name: "empty raw tracepoints", Hooks: []string{"start_xmit", "xmit"}},
		{Name: "hist fentry", Args: []string{"hist", "-d", "0", "--backend", "fentry"}, Fentry: true},
		{Name: "hist kprobe", Args: []string{"hist", "-d", "0", "--backend", "kprobe"}},
		{Name: "hist tracepoint", Args: []string{"hist", "-d", "0", "--backend", "tracepoint"}},
		{Name: "watch fentry", Args: []string{"watch", "-o", "json", "--backend", "fentry"}, Fentry: true, Checked: true, Reports: true},
		{Name: "watch kprobe", Args: []string{"watch", "-o", "json", "--backend", "kprobe"}, Checked: true, Reports: true},
		{Name: "watch tracepoint", Args: []string{"watch", "--backend", "tracepoint"}},
		{Name: "watch --rejected", Args: []string{"watch", "--rejected"}},
		{Name: "watch --drops all", Args: []string{"watch", "--drops", "all"}},
		{Name: "watch -w", Args: []string{"watch", "--backend", "fentry", "-w", Recordings + "/cost.jsonl.zst"}, Fentry: true},
		{Name: "record fentry", Args: []string{"record", "--backend", "fentry", "--dir", Recordings}, Fentry: true},
		{Name: "record kprobe", Args: []string{"record", "--backend", "kprobe", "--dir", Recordings}},
		{Name: "congestion", Args: []string{"congestion", "-d", "0"}, Checked: true},
		{Name: "bpftrace kprobe", Bpftrace: "kprobe"},
		{Name: "bpftrace tracepoint", Bpftrace: "tracepoint"},
	}
}
