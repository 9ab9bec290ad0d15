package kernel

import "maps"

// A Feature is something that BPF programs use where a kernel has it. Whether a kernel has
// one is found by trying, or in its types: distributions carry features back.
type Feature string

// The features that a kernel may lack.
const (
	TypedReads       Feature = "typed reads (bpf_rdonly_cast)"
	TypedTracepoints Feature = "typed tracepoints (tp_btf)"
	Trampolines      Feature = "fentry and fexit"
	ModuleTypes      Feature = "BTF of modules"
	Kprobes          Feature = "kprobes"
	Iterators        Feature = "iterators (iter/task_file)"
	AtomicExchange   Feature = "atomic exchange (BPF_XCHG)"
	VariableAddress  Feature = "addresses of kernel variables"
	Loops            Feature = "bpf_loop"
	ProgramRuns      Feature = "runs of raw tracepoint programs (BPF_PROG_RUN)"
	RecursionCounts  Feature = "counts of runs skipped for recursion"
	MissedCounts     Feature = "counts of missed kprobes"
	DropReasonTypes  Feature = "drop reasons"
)

// A FeatureUse is what a feature is for, and how xentrace works without it.
type FeatureUse struct {
	Feature
	UsedFor, Instead, Lost string
}

// Features lists all of them, in the order of docs/features.md.
func Features() []FeatureUse {
	return []FeatureUse{
		{Trampolines, "backend fentry; `--rejected`; bounces, wakes, notifications, completions and accepts of `congestion`", "backend kprobe, then tracepoint", "rejected packets; those figures of `congestion` are null"},
		{ModuleTypes, "backend fentry where the driver is a module; offsets in the driver's structures", "backend kprobe, then tracepoint; the flags `broken` and `bounce` from the driver's code", "rejected packets; occupancy of the ring"},
		{Kprobes, "backend kprobe; `--drops-hook kprobe`", "backend tracepoint; `--drops-hook tracepoint`", "rejected packets"},
		{TypedTracepoints, "entry of a packet, backend tracepoint and `congestion`", "a raw tracepoint", "nothing; a packet costs more"},
		{TypedReads, "fields of a packet by plain loads", "one probe read for each", "nothing; a packet costs more"},
		{Iterators, "the process that holds a socket", "a search in /proc", "nothing; more privileges are kept, and a search takes longer"},
		{VariableAddress, "the process that sends, by preempt_count", "the process that alone holds the socket", "the sender among several holders of a socket"},
		{AtomicExchange, "`congestion`: stops and completions that two CPUs see", "stops without it", "completion times; a stop may be counted by both CPUs"},
		{Loops, "`--drops-hook kprobe`, where a list of packets is freed at once", "`--drops-hook tracepoint`", "nothing"},
		{ProgramRuns, "the driver's code; packets over the limit without a next packet; state of connections and queues", "the driver's file on disk (`check`); the CPU's next packet", "whether the driver linearizes (`watch`); stalls and queues that are stuck"},
		{RecursionCounts, "`lost.recursion`", "none", "`lost.recursion` is null"},
		{MissedCounts, "`lost.missed`, and `lost.recursion` of backend kprobe", "none", "they are null"},
		{DropReasonTypes, "`reason` of drops elsewhere", "the stack", "`reason` is null"},
	}
}

// Without returns the types of a kernel that lacks some features.
func (t *Types) Without(lacking ...Feature) *Types {
	less := *t
	if less.lacking = maps.Clone(t.lacking); less.lacking == nil {
		less.lacking = make(map[Feature]bool)
	}
	for _, feature := range lacking {
		less.lacking[feature] = true
	}
	return &less
}

// Lacks reports whether the kernel is known to lack a feature. One that it does not lack may
// still be refused.
func (t *Types) Lacks(feature Feature) bool { return t.lacking[feature] }

// AllowsTypedReads reports whether the kernel has bpf_rdonly_cast, which came with 6.2.
// Whether a type of program may call it is found out by loading.
func (t *Types) AllowsTypedReads() bool {
	there, err := t.HasFunction("", "bpf_rdonly_cast")
	return err == nil && there && !t.Lacks(TypedReads)
}
