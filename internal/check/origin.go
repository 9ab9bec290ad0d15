package check

import (
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"xentrace/internal/event"
)

// An Origin is a line of a configuration file that sets something when the machine or the
// interface comes up.
type Origin struct {
	Place     string // /etc/rc.local:3
	Setting   string // sg, tso or gso, which it turns off, mtu, or HighOrder
	Interface string // that it names; empty for none, a pattern or a variable
	Value     int    // of the MTU or the sysctl
}

// HighOrder is the sysctl that makes new page fragments single pages (5.3).
const HighOrder = "net.core.high_order_alloc_disable"

const (
	maxOriginFiles = 2000
	maxOriginBytes = 256 << 10 // of a file
)

// originFiles are where distributions and administrators set interfaces up: scripts at boot,
// ifupdown, udev, systemd, NetworkManager, netplan, the network scripts of RHEL and SUSE, and
// cloud-init.
var originFiles = []string{
	"etc/rc.local", "etc/rc.d/rc.local", "etc/init.d/boot.local", "etc/local.d/*.start", "etc/crontab", "etc/cron.d/*",
	"etc/network/interfaces", "etc/network/interfaces.d/*", "etc/network/if-pre-up.d/*", "etc/network/if-up.d/*",
	"etc/udev/rules.d/*.rules", "run/udev/rules.d/*.rules", "usr/lib/udev/rules.d/*.rules",
	"etc/systemd/network/*.link", "etc/systemd/network/*.network", "run/systemd/network/*.link", "run/systemd/network/*.network", "usr/lib/systemd/network/*.link",
	"etc/systemd/system/*.service", "etc/systemd/system/*.service.d/*.conf",
	"etc/NetworkManager/system-connections/*", "run/NetworkManager/system-connections/*", "etc/NetworkManager/conf.d/*.conf", "etc/NetworkManager/dispatcher.d/*", "etc/NetworkManager/dispatcher.d/*/*",
	"etc/netplan/*.yaml", "etc/sysconfig/network-scripts/ifcfg-*", "etc/sysconfig/network/ifcfg-*", "sbin/ifup-local",
	"etc/sysctl.conf", "etc/sysctl.d/*.conf", "run/sysctl.d/*.conf", "usr/local/lib/sysctl.d/*.conf", "usr/lib/sysctl.d/*.conf",
	"etc/cloud/cloud.cfg", "etc/cloud/cloud.cfg.d/*.cfg", "var/lib/cloud/instance/user-data.txt", "var/lib/cloud/instance/scripts/*", "var/lib/cloud/scripts/*/*",
}

// offloadNames are the spellings of each setting: ethtool's, ifupdown's and NetworkManager's, then
// systemd's and netplan's.
var offloadNames = map[string]string{
	"sg": "sg", "scatter-gather": "sg", "tx-scatter-gather": "sg",
	"tso": "tso", "tcp-segmentation-offload": "tso", "tx-tcp-segmentation": "tso", "tx-tcp6-segmentation": "tso", "tcp6-segmentation-offload": "tso",
	"gso": "gso", "generic-segmentation-offload": "gso", "tx-generic-segmentation": "gso",
	"TCPSegmentationOffload": "tso", "TCP6SegmentationOffload": "tso", "GenericSegmentationOffload": "gso",
}

var (
	// "ethtool -K eth0 tso off gso off", ETHTOOL_OPTS="-K eth0 sg off", ethtool's --features.
	ethtoolChange = regexp.MustCompile(`(?:-K|--features|--offload)[ =]+(\S+)((?:\s+[a-z0-9-]+\s+(?:on|off))+)`)
	// "offload-tso off", "feature-sg=false", "tcp-segmentation-offload: no", "TCPSegmentationOffload=no".
	offloadLine = regexp.MustCompile(`^(?:offload-|ethtool\.feature-|feature-)?([A-Za-z0-9-]+)\s*[=:\s]\s*"?(?:off|no|false|0)"?$`)
	// "mtu 9001", "mtu: 9001", "MTU=9001", "MTUBytes=9001", ATTR{mtu}="9001".
	mtuLine = regexp.MustCompile(`(?i)(?:^|[\s{"'])mtu(?:bytes)?\}?\s*[=:\s]=?\s*"?([0-9]+)\b`)
	// As sysctl.d(5) has it, or a script.
	highOrderLine = regexp.MustCompile(`(?:^-?|[\s"'])net[./]core[./]high_order_alloc_disable\s*=\s*"?([0-9]+)`)

	device = regexp.MustCompile(`\bdev(?:ice)?\s+(\S+)`)
)

func (r *reader) readOrigins() []Origin {
	var found []Origin
	files := 0
	for _, pattern := range originFiles {
		names, _ := fs.Glob(r.source.Files, pattern)
		for _, name := range names {
			info, err := fs.Stat(r.source.Files, name)
			if err != nil || !info.Mode().IsRegular() || info.Size() > maxOriginBytes {
				continue
			}
			if files++; files > maxOriginFiles {
				return found
			}
			found = append(found, originsIn("/"+name, r.text(name))...)
		}
	}
	return found
}

func originsIn(path, content string) []Origin {
	var found []Origin
	number := 0
	for text := range strings.Lines(content) {
		number++
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		for _, o := range originsOf(text) {
			o.Place = path + ":" + strconv.Itoa(number)
			found = append(found, o)
		}
	}
	return found
}

func originsOf(text string) []Origin {
	var found []Origin
	words := strings.NewReplacer("[", " ", "]", " ", ",", " ").Replace(text) // cloud-init has lists of arguments
	for _, change := range ethtoolChange.FindAllStringSubmatch(words, -1) {
		words := strings.Fields(change[2])
		for n := 0; n+1 < len(words); n += 2 {
			if setting := offloadNames[words[n]]; setting != "" && words[n+1] == "off" {
				found = append(found, Origin{Setting: setting, Interface: literal(change[1])})
			}
		}
	}
	if fields := offloadLine.FindStringSubmatch(text); fields != nil && offloadNames[fields[1]] != "" {
		found = append(found, Origin{Setting: offloadNames[fields[1]]})
	}
	if fields := highOrderLine.FindStringSubmatch(text); fields != nil {
		value, _ := strconv.Atoi(fields[1])
		found = append(found, Origin{Setting: HighOrder, Value: value})
	}
	if fields := mtuLine.FindStringSubmatch(text); fields != nil {
		o := Origin{Setting: "mtu"}
		o.Value, _ = strconv.Atoi(fields[1])
		if named := device.FindStringSubmatch(text); named != nil {
			o.Interface = literal(named[1])
		}
		found = append(found, o)
	}
	return found
}

// literal is an interface's name, and empty for a variable or a pattern, such as $IFACE or %k.
func literal(word string) string {
	word = strings.Trim(word, `"'`)
	if strings.ContainsAny(word, "$%{}*?[]`") {
		return ""
	}
	return word
}

// Undoing returns the lines that set something else when the machine or the interface comes up:
// of sg, tso and gso those that turn it off, of mtu and HighOrder those with another value. An
// interface's name is empty for a setting of the machine.
func (m *Machine) Undoing(ifname, setting string, value int) []Origin {
	var found []Origin
	for _, o := range m.Origins {
		valued := setting == "mtu" || setting == HighOrder
		if o.Setting == setting && (o.Interface == "" || o.Interface == ifname) && !(valued && o.Value == value) {
			found = append(found, o)
		}
	}
	return found
}

// origins are the lines that set one of the settings for an interface.
func (m *Machine) origins(i *Interface, settings ...string) []string {
	var places []string
	for _, o := range m.Origins {
		for _, setting := range settings {
			if o.Setting == setting && (o.Interface == "" || o.Interface == i.Name) && (setting != "mtu" || o.Value == i.MTU) {
				if n := len(places); n == 0 || places[n-1] != o.Place {
					places = append(places, o.Place)
				}
			}
		}
	}
	return places
}

// maxPlaces bounds a sentence.
const maxPlaces = 5

// setBy adds where a setting comes from, if that was found.
func (m *Machine) setBy(f *event.Finding, i *Interface, settings ...string) {
	places := m.origins(i, settings...)
	if len(places) == 0 {
		return
	}
	shown, more := places, ""
	if len(shown) > maxPlaces {
		shown, more = shown[:maxPlaces], fmt.Sprintf(" and %d more", len(places)-maxPlaces)
	}
	f.Evidence = append(f.Evidence, event.Fact{Key: "set_by", Value: strings.Join(shown, ", ") + more})
	f.Message += " Set at boot by " + strings.Join(shown, ", ") + more + "."
}
