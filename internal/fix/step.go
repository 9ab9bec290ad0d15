package fix

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/remedy"
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

// HighOrder is the switch that makes page fragments single pages.
const HighOrder = check.HighOrder

// actions are all that fix can do, in the order in which it is done: what keeps packets
// within the limit comes before what lets larger ones through, and an MTU comes after the
// scatter-gather that it may need.
var actions = []action{
	remedied(remedy.SinglePages, "new page fragments are single pages", change{sysctl: HighOrder, value: "1"}),
	remedied(remedy.OffloadOff, "packets are no longer than the MTU", change{features: segmentation}),
	remedied(remedy.SGOn, "the driver accepts packets of several slots", change{features: scatterGather, on: true}),
	remedied(remedy.OffloadOn, "the driver accepts packets larger than the MTU", change{features: segmentation, on: true}),
	mtuAction(plainMTU),
	mtuAction(largestMTU),
	remedied(remedy.SGOff, "an old workaround that drops small packets on many kernels", change{features: scatterGather}),
	{name: string(remedy.UpdateKernel), effect: remedy.Of(remedy.UpdateKernel).Effect, cost: remedy.Of(remedy.UpdateKernel).Cost, manual: true},
}

func remedied(id remedy.ID, does string, c change) action {
	r := remedy.Of(id)
	return action{name: string(id), command: r.Command, effect: r.Effect, cost: r.Cost, does: does, change: c}
}

const (
	plainMTU   = 1500  // the most that the driver accepts without scatter-gather
	largestMTU = 65517 // with an Ethernet header and a VLAN tag: the 65535 bytes that a request can have
)

func mtuAction(mtu int) action {
	const does = "the MTU is N bytes, such as 1500"
	id := remedy.ID(fmt.Sprintf("mtu-%d", mtu))
	if remedy.Of(id).Command != "" {
		return remedied(id, does, change{mtu: mtu})
	}
	return action{
		name: string(id), command: fmt.Sprintf("ip link set dev {ifname} mtu %d", mtu), change: change{mtu: mtu}, does: does,
		effect: fmt.Sprintf("MTU %d. Queued segments are re-segmented at their next retransmission.", mtu),
	}
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
