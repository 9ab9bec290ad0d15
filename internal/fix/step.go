package fix

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
)

// A Step is one change to the machine, with what it takes to make it.
type Step struct {
	event.FixStep

	change   change
	identity Identity        // of the interface
	has      map[string]bool // features that the interface has, of those that check reads
	manual   bool            // for the user to do
}

// A change is what a step sets; one of its fields is.
type change struct {
	sysctl   string // its name, with dots
	value    string
	mtu      int
	features []string // names of the kernel's
	on       bool     // what they are to be
}

// An action is a step before it is known for what.
type action struct {
	name    string
	command string // {ifname} stands for the interface
	effect  string
	cost    string
	does    string // for help, a phrase
	change  change
	manual  bool
}

// The features behind the short names of ethtool -K.
var (
	scatterGather = []string{"tx-scatter-gather"}
	segmentation  = []string{"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", "tx-generic-segmentation"}
)

// HighOrder is the switch that makes page fragments single pages (5.3).
const HighOrder = "net.core.high_order_alloc_disable"

// actions are all that fix can do, in the order in which it is done: what keeps
// packets within the limit comes before what lets larger ones through, and an MTU
// comes after the scatter-gather that it may need.
var actions = []action{
	{
		name: "single-pages", command: "sysctl -w " + HighOrder + "=1", change: change{sysctl: HighOrder, value: "1"},
		does:   "new page fragments are single pages",
		effect: "New fragments are single pages and no longer straddle two, so copied data stays within the limit. Each process first uses up the fragment it has, at most 32 KiB.",
		cost:   "Bulk senders allocate more often and use a little more CPU; a datagram that is put together from more than 17 page pieces is an error (EMSGSIZE).",
	},
	{
		name: "tso-gso-off", command: "ethtool -K {ifname} tso off gso off", change: change{features: segmentation},
		does:   "packets are no longer than the MTU",
		effect: "Packets are no longer than the MTU, so few of them need more than 18 slots.",
		cost:   "Bulk senders use much more CPU and are slower; a packet of many small pieces can still be over the limit.",
	},
	{
		name: "sg-on", command: "ethtool -K {ifname} sg on", change: change{features: scatterGather, on: true},
		does:   "the driver takes packets of several pieces",
		effect: "The driver takes packets of up to 18 slots again, so none is dropped for needing two. Sending takes less CPU.",
	},
	{
		name: "tso-gso-on", command: "ethtool -K {ifname} tso on gso on", change: change{features: segmentation, on: true},
		does:   "the driver takes packets larger than the MTU",
		effect: "Bulk senders use less CPU and are faster. What turned it off, a start-up script perhaps, may do so again at the next start.",
	},
	mtuAction(1500),
	mtuAction(largestMTU),
	{
		name: "sg-off", command: "ethtool -K {ifname} sg off", change: change{features: scatterGather},
		does:   "an old way around the drops, which loses small packets on many kernels",
		effect: "Packets are copied into one piece before the driver has them, so none needs more than 18 slots.",
		cost:   "Small packets that cross a page are dropped instead, sending takes more CPU, and the MTU becomes 1500 at most.",
	},
	{
		name: "update-kernel", manual: true,
		effect: "From Linux 3.17 on, and in stable kernels that took the change, the driver copies a packet over the limit into one buffer and sends it. That ends the drops for good.",
		cost:   "A restart.",
	},
}

const (
	plainMTU   = 1500  // the most that the driver takes without scatter-gather
	largestMTU = 65517 // with an Ethernet header and a VLAN tag: the 65535 bytes that a request can say
)

// mtuAction is the step mtu-N.
func mtuAction(mtu int) action {
	a := action{
		name: fmt.Sprintf("mtu-%d", mtu), command: fmt.Sprintf("ip link set dev {ifname} mtu %d", mtu), change: change{mtu: mtu},
		does:   "the MTU is N bytes, such as 1500",
		effect: fmt.Sprintf("The MTU is %d. Segments already queued are cut anew when they are sent again.", mtu),
	}
	switch mtu {
	case plainMTU:
		a.effect = "Segments already queued are cut anew when they are sent again, which frees a stuck connection."
		a.cost = "The gain of jumbo frames is lost for all traffic on the interface."
	case largestMTU:
		a.effect = "A full packet with its Ethernet header and a VLAN tag is then 65535 bytes, the most that a request on the ring can say."
	}
	return a
}

// Names returns the names of all steps that can be asked for, with what they do;
// mtu-N stands for every MTU.
func Names() (names []string, does map[string]string) {
	does = map[string]string{}
	for _, a := range actions {
		name := a.name
		if a.change.mtu != 0 {
			name = "mtu-N"
		}
		if a.manual || slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
		does[name] = a.does
	}
	return names, does
}

// CheckName returns an error for a name that no step has.
func CheckName(name string) error {
	_, err := actionNamed(name)
	return err
}

func actionNamed(name string) (action, error) {
	if number, is := strings.CutPrefix(name, "mtu-"); is {
		mtu, err := strconv.Atoi(number)
		if err != nil || mtu < 68 || mtu > 65535 {
			return action{}, errors.New("not an MTU from 68 to 65535")
		}
		return mtuAction(mtu), nil
	}
	for _, a := range actions {
		if a.name == name && !a.manual {
			return a, nil
		}
	}
	names, _ := Names()
	return action{}, fmt.Errorf("not one of %s", strings.Join(names, ", "))
}
