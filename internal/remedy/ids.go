package remedy

// An ID names a remedy: the id of advice in JSON, and the step of fix where it is one.
type ID string

// Settings of the guest that fix can change.
const (
	SinglePages  ID = "single-pages"
	SGOn         ID = "sg-on"
	SGOff        ID = "sg-off"
	SGBackend    ID = "sg-backend"
	OffloadOff   ID = "tso-gso-off"
	OffloadOn    ID = "tso-gso-on"
	MTU1500      ID = "mtu-1500"
	MTU65517     ID = "mtu-65517"
	UpdateKernel ID = "update-kernel"
)

// Other settings of the guest.
const (
	GROLimit          ID = "gro-limit"
	MemoryReserve     ID = "memory-reserve"
	MaxQueues         ID = "max-queues"
	QueuesBuiltIn     ID = "max-queues-built-in"
	QueuesSet         ID = "max-queues-set"
	QueuesPending     ID = "max-queues-pending"
	FewerQueues       ID = "fewer-queues"
	RPS               ID = "rps"
	Irqbalance        ID = "irqbalance"
	GetIrqbalance     ID = "install-irqbalance"
	IRQAffinity       ID = "irq-affinity"
	IRQBanned         ID = "irq-affinity-kept"
	SpuriousFix       ID = "spurious-fix"
	SpuriousThreshold ID = "spurious-threshold"
	LoadDriver        ID = "load-driver"
	GetDriver         ID = "install-driver"
	Unplug            ID = "unplug"
	TrustBackend      ID = "trust-backend"
	TrustSet          ID = "trust-backend-set"
	TrustInDom0       ID = "trust-in-dom0"
	LoadBetter        ID = "load-better-driver"
	GetBetter         ID = "install-better-driver"
	BetterUp          ID = "better-device-up"
	Somaxconn         ID = "somaxconn"
	AcceptFaster      ID = "accept-faster"
	FewerPackets      ID = "fewer-packets"
	BypassDevice      ID = "bypass-device"
	LessLoadedHost    ID = "less-loaded-host"
)

// Settings of dom0.
const (
	Dom0Weight       ID = "dom0-weight"
	Dom0Pin          ID = "dom0-pin"
	GuestWeight      ID = "guest-weight"
	BackendDebug     ID = "backend-debug"
	BackendQueues    ID = "backend-queues"
	GrantFrames      ID = "grant-frames"
	UpdateBackend    ID = "update-backend"
	SpuriousHost     ID = "spurious-host"
	GrantTableCached ID = "grant-table-cached"
	ChecksumInDom0   ID = "checksum-in-dom0"
	Reattach         ID = "reattach"
)

// What to look at.
const (
	WatchDriver    ID = "watch"
	WatchElsewhere ID = "watch-elsewhere"
	ReportPacket   ID = "report-packet"
	LogOfDriver    ID = "log-of-driver"
	LogOfBroken    ID = "log-of-broken"
	LogOfBetter    ID = "log-of-better-device"
	LinkState      ID = "link-state"
	BacklogState   ID = "backlog-state"
	CarrierState   ID = "carrier-state"
	FeatureState   ID = "feature-state"
	Rejected       ID = "rejected-packets"
	QdiscState     ID = "qdisc-state"
	ClassState     ID = "class-state"
	QueueLength    ID = "queue-length"
	Neighbours     ID = "neighbours"
	NFTRules       ID = "nft-rules"
	IPTablesRules  ID = "iptables-rules"
	ConntrackState ID = "conntrack-state"
	NATPorts       ID = "nat-ports"
	ConntrackMax   ID = "conntrack-max"
	EgressFilters  ID = "egress-filters"
	CgroupPrograms ID = "cgroup-programs"
	Routes         ID = "routes"
	XfrmPolicy     ID = "xfrm-policy"
	PathMTU        ID = "path-mtu"
	LinkNesting    ID = "link-nesting"
	RouteLoop      ID = "route-loop"
)
