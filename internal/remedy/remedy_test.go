package remedy

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestEveryRemedyIsWholeSentences(t *testing.T) {
	for id, r := range catalogue {
		if !isSentence(r.Effect) {
			t.Errorf("%s: effect %q is no sentence", id, r.Effect)
		}
		if r.Cost != "" && !isSentence(r.Cost) {
			t.Errorf("%s: cost %q is no sentence", id, r.Cost)
		}
	}
}

func isSentence(s string) bool {
	return s != "" && strings.ToUpper(s[:1]) == s[:1] && strings.HasSuffix(s, ".")
}

// aFile is a place where a parameter is set.
const aFile = "/etc/modprobe.d/a.conf:3"

// everyFacts calls f with each combination of what decides about remedies.
func everyFacts(f func(Facts)) {
	settings := []Setting{NotKnown, Off, On, Absent}
	dimensions := []struct {
		n   int
		set func(*Facts, int)
	}{
		{3, func(f *Facts, i int) { f.MTU = []int{0, 1500, 65535}[i] }},
		{4, func(f *Facts, i int) { f.SG = settings[i] }},
		{4, func(f *Facts, i int) { f.TSO = settings[i] }},
		{4, func(f *Facts, i int) { f.GSO = settings[i] }},
		{4, func(f *Facts, i int) { f.TSO6 = settings[i] }},
		{2, func(f *Facts, i int) { f.Queues = []int{1, 8}[i] }},
		{3, func(f *Facts, i int) { f.MaxQueues = []int{0, 1, 8}[i] }},
		{5, func(f *Facts, i int) { f.Driver = Driver(i) }},
		{3, func(f *Facts, i int) { f.Linearizes = settings[i] }},
		{4, func(f *Facts, i int) { f.SinglePages = settings[i] }},
		{2, func(f *Facts, i int) { f.CPUs = [][]int{{0}, {0, 1, 2, 3}}[i] }},
		{3, func(f *Facts, i int) { // memory and its reserve
			f.MemoryKB, f.MinFreeKB = []int{0, 512 << 10, 16 << 20}[i], []int{0, 11264, 67584}[i]
		}},
		{4, func(f *Facts, i int) { f.NoGrants, f.NeverUnplugged = i&1 != 0, i&2 != 0 }},
		{4, func(f *Facts, i int) { // where it is
			f.Irqbalance, f.OutsideInit = settings[i], i&1 != 0
			if i&2 != 0 {
				f.Enter = "/run/netns/a b"
			}
		}},
		{3, func(f *Facts, i int) { f.BackendQueues = []int{0, 1, 8}[i] }},
		{3, func(f *Facts, i int) { // where the parameters are set
			f.QueuesIn, f.QueuesNext = []string{"", aFile, aFile}[i], []int{0, 1, 8}[i]
			f.TrustedIn = f.QueuesIn
		}},
		{4, func(f *Facts, i int) { f.RPSCPUs = []string{"", "1", "f", "3"}[i] }},
		{4, func(f *Facts, i int) { f.Somaxconn = []int{0, 128, 4096, 65535}[i] }},
		{4, func(f *Facts, i int) { f.Backlog = []int{0, 128, 100, 4096}[i] }},
		{4, func(f *Facts, i int) { // event channels
			f.Spurious, f.SpuriousFix = i&1 != 0, i&2 != 0
		}},
		{4, func(f *Facts, i int) {
			f.Vif, f.SpuriousThreshold = []string{"", "vif-0", "vif-0", "vif-0"}[i], []int{1, 0, 1, 20}[i]
		}},
		{3, func(f *Facts, i int) {
			f.IRQ, f.IRQCPU = []string{"", "72", "72"}[i], []string{"", "2", ""}[i]
			f.Loaded = f.MTU == 1500
			f.Module, f.Address = []string{"", "ena", ""}[i], []string{"", "0000:00:05.0", "0000:00:05.0"}[i]
		}},
	}
	// All combinations are many millions. The first six dimensions vary fully, the others at random.
	random := rand.New(rand.NewPCG(1, 2))
	var vary func(Facts, int)
	vary = func(facts Facts, at int) {
		if at == 6 {
			for _, d := range dimensions[at:] {
				d.set(&facts, random.IntN(d.n))
			}
			f(facts)
			return
		}
		for i := range dimensions[at].n {
			next := facts
			dimensions[at].set(&next, i)
			vary(next, at+1)
		}
	}
	for range 8 {
		vary(Facts{Interface: "eth0"}, 0)
	}
}

// Whatever the machine is like, no remedy is given that is in effect already, cannot work
// there, or exceeds a limit.
func TestNoRemedyIsUseless(t *testing.T) {
	var all []ID
	for id := range catalogue {
		all = append(all, id)
	}
	is := func(s Setting, states ...Setting) bool { return slices.Contains(states, s) }
	useless := map[ID]func(*Facts) bool{
		SinglePages: func(f *Facts) bool { return f.SinglePages == On || f.SinglePages == Absent },
		SGOn:        func(f *Facts) bool { return f.SG == On || f.SG == Absent || f.Linearizes == Off },
		SGOff:       func(f *Facts) bool { return f.SG == Off || f.SG == Absent },
		SGBackend:   func(f *Facts) bool { return f.SG != Absent },
		OffloadOff: func(f *Facts) bool {
			return !is(f.TSO, NotKnown, On) && !is(f.TSO6, NotKnown, On) && !is(f.GSO, NotKnown, On)
		},
		OffloadOn: func(f *Facts) bool {
			return f.TSO != Off && f.TSO6 != Off && f.GSO != Off || f.SG == Off || f.SG == Absent || f.Linearizes == Off
		},
		MTU1500:       func(f *Facts) bool { return f.MTU <= 1500 },
		MTU65517:      func(f *Facts) bool { return f.MTU <= 65517 || f.Linearizes == Off },
		GROLimit:      func(f *Facts) bool { return f.MTU == 0 || f.MTU > 65517 },
		UpdateKernel:  func(f *Facts) bool { return f.Linearizes == On },
		MaxQueues:     func(f *Facts) bool { return f.Driver != Module || f.MaxQueues > f.Queues || f.QueuesIn != "" },
		QueuesBuiltIn: func(f *Facts) bool { return f.Driver != BuiltIn || f.MaxQueues > f.Queues || f.QueuesIn != "" },
		QueuesSet:     func(f *Facts) bool { return f.QueuesIn == "" || f.QueuesNext > f.Queues },
		QueuesPending: func(f *Facts) bool { return f.QueuesIn == "" || f.QueuesNext <= f.Queues },
		BackendQueues: func(f *Facts) bool { return f.MaxQueues <= f.Queues || f.BackendQueues > f.Queues },
		GrantFrames:   func(f *Facts) bool { return !f.NoGrants },
		FewerQueues:   func(f *Facts) bool { return !f.NoGrants || f.Queues == 1 },
		RPS: func(f *Facts) bool {
			return len(f.CPUs) < 2 || f.Enter != "" || f.Queues > 1 || len(f.CPUs) == 4 && f.RPSCPUs == "f"
		},
		Irqbalance:    func(f *Facts) bool { return f.Queues < 2 || len(f.CPUs) < 2 || f.Irqbalance != Off },
		GetIrqbalance: func(f *Facts) bool { return f.Queues < 2 || len(f.CPUs) < 2 || f.Irqbalance != Absent },
		IRQAffinity:   func(f *Facts) bool { return f.IRQ == "" || f.IRQCPU == "" },
		IRQBanned:     func(f *Facts) bool { return f.IRQ == "" || f.IRQCPU == "" || f.Irqbalance != On },
		LoadDriver: func(f *Facts) bool {
			return f.Driver == BuiltIn || f.Driver == Module || f.Driver == NoDriver || f.NeverUnplugged
		},
		GetDriver:   func(f *Facts) bool { return f.Driver != NoDriver || f.NeverUnplugged },
		LoadBetter:  func(f *Facts) bool { return f.Module == "" || f.Loaded },
		LogOfBetter: func(f *Facts) bool { return f.Module == "" || !f.Loaded },
		GetBetter:   func(f *Facts) bool { return f.Module != "" || f.Address == "" },
		SpuriousFix: func(f *Facts) bool { return !f.Spurious || f.SpuriousFix },
		SpuriousThreshold: func(f *Facts) bool {
			return !f.Spurious || f.Vif == "" || f.SpuriousThreshold == 0 || f.SpuriousThreshold > 10
		},
		SpuriousHost:  func(f *Facts) bool { return !f.Spurious },
		TrustSet:      func(f *Facts) bool { return f.TrustedIn == "" },
		TrustBackend:  func(f *Facts) bool { return f.TrustedIn != "" },
		Unplug:        func(f *Facts) bool { return !f.NeverUnplugged },
		MemoryReserve: func(f *Facts) bool { return f.MemoryKB == 0 || f.MemoryKB/32 <= f.MinFreeKB },
		Somaxconn: func(f *Facts) bool {
			return f.Somaxconn == 0 || f.Somaxconn >= 4096 || f.Enter != "" || f.Backlog != 0 && f.Backlog < f.Somaxconn
		},
	}
	for _, id := range []ID{MaxQueues, QueuesBuiltIn, QueuesSet, QueuesPending, BackendQueues} {
		already := useless[id]
		useless[id] = func(f *Facts) bool {
			return already(f) || f.NoGrants || f.MaxQueues == 0 || f.Queues >= len(f.CPUs) || f.Queues >= 8
		}
	}
	seen := make(map[ID]bool)
	tried := 0
	everyFacts(func(f Facts) {
		tried++
		for _, a := range For(f, all...) {
			id := ID(a.ID)
			seen[id] = true
			if bad := useless[id]; bad != nil && bad(&f) {
				t.Fatalf("%s is useless with %+v", id, f)
			}
			if strings.Contains(a.Command+a.Effect, "{") {
				t.Fatalf("%s: placeholder left in %q with %+v", id, a.Command+a.Effect, f)
			}
			if f.Enter != "" && strings.Contains(a.Command, "eth0") && !strings.HasPrefix(a.Command, "nsenter --net='/run/netns/a b' -- ") {
				t.Fatalf("%s: %q acts on the caller's namespace", id, a.Command)
			}
		}
	})
	for id := range useless {
		if !seen[id] {
			t.Errorf("%s was never given in %d combinations", id, tried)
		}
	}
}

func TestCommandsAreComplete(t *testing.T) {
	f := Facts{
		Interface: "eth0", Queues: 1, CPUs: []int{0, 1, 2, 3}, Driver: Module, MemoryKB: 16 << 20, MinFreeKB: 67584,
		Port: 80, Module: "ena", Device: "ens5", TSO: Off, MaxQueues: 1, IRQ: "73", IRQCPU: "4", Somaxconn: 128,
	}
	for id, want := range map[ID]string{
		SGOn:          "ethtool -K eth0 sg on",
		OffloadOn:     "ethtool -K eth0 tso on gso on",
		MaxQueues:     "echo 'options xen_netfront max_queues=4' >> /etc/modprobe.d/xen-netfront-queues.conf",
		RPS:           "echo f > /sys/class/net/eth0/queues/rx-0/rps_cpus",
		MemoryReserve: "sysctl -w vm.min_free_kbytes=131072",
		AcceptFaster:  "ss -ltnp 'sport = :80'",
		LoadBetter:    "modprobe ena",
		IRQAffinity:   "echo 4 > /proc/irq/73/smp_affinity",
		Somaxconn:     "sysctl -w net.core.somaxconn=4096",
		SinglePages:   "sysctl -w net.core.high_order_alloc_disable=1",
		BetterUp:      "ip link set dev ens5 up",
	} {
		advice := For(f, id)
		if len(advice) != 1 || advice[0].Command != want {
			t.Errorf("%s: %+v, want %s", id, advice, want)
		}
	}
	f.OutsideInit, f.Enter = true, "/run/netns/c"
	for id, want := range map[ID]string{
		SinglePages:   "nsenter --target 1 --net -- sysctl -w net.core.high_order_alloc_disable=1",
		NFTRules:      "nsenter --net=/run/netns/c -- nft list ruleset",
		IPTablesRules: "nsenter --net=/run/netns/c -- iptables-save -c; nsenter --net=/run/netns/c -- ip6tables-save -c",
		AcceptFaster:  "nsenter --net=/run/netns/c -- ss -ltnp 'sport = :80'",
		QdiscState:    "nsenter --net=/run/netns/c -- tc -s qdisc show dev eth0",
	} {
		if advice := For(f, id); len(advice) != 1 || advice[0].Command != want {
			t.Errorf("in another namespace %s: %+v, want %s", id, advice, want)
		}
	}
	f.Interface = ""
	if advice := For(f, SGOn); len(advice) != 1 || advice[0].Command != "" {
		t.Errorf("without an interface: %+v", advice)
	}
}

func TestMask(t *testing.T) {
	first := func(n int) (cpus []int) {
		for cpu := range n {
			cpus = append(cpus, cpu)
		}
		return cpus
	}
	for _, test := range []struct {
		cpus []int
		want string
	}{
		{nil, "0"}, {first(1), "1"}, {first(2), "3"}, {first(8), "ff"}, {first(32), "ffffffff"}, {first(33), "1,ffffffff"},
		{first(70), "3f,ffffffff,ffffffff"}, {[]int{0, 2}, "5"}, {[]int{64}, "1,00000000,00000000"},
	} {
		if got := Mask(test.cpus); got != test.want {
			t.Errorf("%v: %s, want %s", test.cpus, got, test.want)
		}
	}
}

func TestQuote(t *testing.T) {
	for name, want := range map[string]string{
		"eth0": "eth0", "eth0.100": "eth0.100", "$(reboot)": "'$(reboot)'", "it's;x": `'it'\''s;x'`, "": "''",
		"veth@if3-b": "veth@if3-b", "\x1b[2J": "'\x1b[2J'",
	} {
		if got := Quote(name); got != want {
			t.Errorf("Quote(%q) = %s, want %s", name, got, want)
		}
	}
}

// A remedy that is not in the catalogue is not given.
func TestUnknownRemedy(t *testing.T) {
	if got := For(Facts{}, "no-such"); got != nil {
		t.Errorf("%+v", got)
	}
	if !reflect.DeepEqual(Of("no-such"), Remedy{}) {
		t.Error("no-such is in the catalogue")
	}
}
