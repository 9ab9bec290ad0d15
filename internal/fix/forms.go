package fix

import (
	"fmt"
	"strings"
)

// A form is one way of making settings of an interface last.
type form struct {
	directory string // that is there if the machine has it
	files     func(lasting) []File
}

var forms = map[Persistence]form{
	Systemd: {"/etc/systemd/system", systemdFiles},
	// A script that ifup runs after it has set an interface up. run-parts takes no name with a dot.
	Ifupdown: {"/etc/network/if-up.d", func(l lasting) []File {
		return script("/etc/network/if-up.d/xentrace-fix-"+strings.ReplaceAll(l.name, ".", "_"), fmt.Sprintf(`[ "$IFACE" = %s ]`, l.name), l)
	}},
	// A script that NetworkManager's dispatcher runs once an interface is up.
	NetworkManager: {"/etc/NetworkManager/dispatcher.d", func(l lasting) []File {
		return script("/etc/NetworkManager/dispatcher.d/90-xentrace-fix-"+l.name, fmt.Sprintf(`[ "$1" = %s ] && [ "$2" = up ]`, l.name), l)
	}},
	Udev: {"/etc/udev/rules.d", udevFiles},
}

// systemdFiles is a service that runs when the interface's device appears, each
// time that it does, and the link that enables it. (A .link file cannot hold
// scatter-gather.)
func systemdFiles(l lasting) []File {
	unit := "xentrace-fix-" + l.name + ".service"
	device := "sys-subsystem-net-devices-" + unitName(l.name) + ".device"
	const directory = "/etc/systemd/system/"
	var b strings.Builder
	fmt.Fprintf(&b, "[Unit]\nDescription=Settings of %s that xentrace fix chose\nBindsTo=%s\nAfter=%s\n\n", l.name, device, device)
	b.WriteString("[Service]\nType=oneshot\nRemainAfterExit=yes\n")
	for _, command := range l.commands {
		fmt.Fprintf(&b, "ExecStart=%s\n", command)
	}
	fmt.Fprintf(&b, "\n[Install]\nWantedBy=%s\n", device)
	return []File{
		{Path: directory + unit, Content: b.String(), Mode: 0o644},
		{Path: directory + device + ".wants/" + unit, Link: directory + unit},
	}
}

// unitName escapes an interface's name as systemd does in the names of units.
func unitName(name string) string {
	var b strings.Builder
	for n, c := range []byte(name) {
		if c == '-' || c == '.' && n == 0 {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// script runs every command where the condition holds, and fails if one of them did.
func script(path, condition string, l lasting) []File {
	content := "#!/bin/sh\n" + condition + " || exit 0\nstatus=0\n"
	for _, command := range l.commands {
		content += command + " || status=1\n"
	}
	return []File{{Path: path, Mode: 0o755, Content: content + "exit $status\n"}}
}

// udevFiles is a rule for when the interface appears or is given that name.
func udevFiles(l lasting) []File {
	rule := fmt.Sprintf(`ACTION=="add|move", SUBSYSTEM=="net", KERNEL=="%s"`, l.name)
	for _, command := range l.commands {
		rule += fmt.Sprintf(`, RUN+="%s"`, command)
	}
	return []File{{Path: "/etc/udev/rules.d/90-xentrace-fix-" + l.name + ".rules", Content: rule + "\n", Mode: 0o644}}
}
