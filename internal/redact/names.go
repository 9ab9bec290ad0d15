package redact

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"

	"xentrace/internal/event"
)

// longName is how many bytes of a name are kept as it is; of a longer one its hash is.
const longName = 256

// names replaces names of one sort: proc-1, proc-2 and so on.
type names struct {
	prefix string
	known  map[string]string
	made   int
}

func (n *names) of(name string) string {
	if name == "" {
		return ""
	}
	if old, is := n.replaced(name); is {
		return old
	}
	if len(n.known) >= mostEntries {
		return n.prefix + "-other"
	}
	n.made++
	made := fmt.Sprintf("%s-%d", n.prefix, n.made)
	n.known[keyOf(name)] = made
	return made
}

// also has a shorter form of a name replaced as the name is.
func (n *names) also(short, made string) {
	if _, is := n.known[short]; !is && short != "" && len(n.known) < mostEntries {
		n.known[short] = made
	}
}

// replaced returns the replacement of a name that was seen.
func (n *names) replaced(name string) (string, bool) {
	made, is := n.known[keyOf(name)]
	return made, is
}

func keyOf(name string) string {
	if len(name) <= longName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return string(sum[:])
}

// commonDevice matches the names that kernels, udev, hypervisors and container engines give:
// they show the kind of an interface and not its owner. The name with a hardware address,
// enx001122334455, is not among them.
var commonDevice = regexp.MustCompile(`^(lo|\(others\)|` +
	`(eth|eno|ens|enX|wlan|vif|xenbr|virbr|br|bond|team|docker|tun|tap|wg|dummy|ifb|vlan|sit|gre|gretap|erspan|ip6tnl|tunl|ip6gre|vxlan|geneve|macvlan|ipvlan|cni)[0-9]+([.:-][0-9]+){0,2}(-emu)?|` +
	`enP?[0-9]*p[0-9]+s[0-9]+(f[0-9]+)?(np[0-9]+|d[0-9]+)?([.:][0-9]+)?|` +
	`(veth|br-|cali|tap)[0-9a-f]{6,12}|` +
	`(if|veth)-[0-9a-f]+)$`)

// device replaces the name of an interface that somebody chose.
func (r *Redactor) device(d event.Device) event.Device {
	d.Name = r.interfaceName(d.Name)
	return d
}

func (r *Redactor) interfaceName(name string) string {
	if commonDevice.MatchString(name) {
		return name
	}
	made := r.devices.of(name)
	r.severalWords(name, made)
	return made
}

// A spaced is a name that is not one word of a text, and its replacement.
type spaced struct{ name, made string }

// shortestSpaced is how long such a name must be: one blank is a name, too.
const shortestSpaced = 3

// severalWords notes a name that is not one word of a text.
func (r *Redactor) severalWords(name, made string) {
	if len(name) < shortestSpaced || len(name) > longName || len(r.spaced) >= mostSpaced || wordLength(name) == len(name) {
		return
	}
	if s := (spaced{name, made}); !slices.Contains(r.spaced, s) {
		r.spaced = append(r.spaced, s)
		slices.SortStableFunc(r.spaced, func(a, b spaced) int { return len(b.name) - len(a.name) })
	}
}
