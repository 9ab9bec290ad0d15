package fix

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/procfs"
	"xentrace/internal/trace"
)

// A Persistence is what makes changes last over a restart; empty for nothing.
type Persistence string

// What can make changes last.
const (
	Systemd        Persistence = "systemd"
	Ifupdown       Persistence = "ifupdown"
	NetworkManager Persistence = "networkmanager"
	Udev           Persistence = "udev"
)

// Persistences lists them.
func Persistences() []Persistence {
	return []Persistence{Systemd, Ifupdown, NetworkManager, Udev}
}

// A File is one that makes changes last.
type File struct {
	Path    string
	Link    string // what it points to; empty for a file
	Content string // with the marker
	Mode    fs.FileMode

	before []byte // what was there, of ours; nil if nothing
	of     string // interface; empty for the machine's settings
}

func (f *File) step() Step {
	step := Step{FixStep: event.FixStep{Name: "persist", Path: f.Path, Content: f.Content, Effect: "It holds after the next start too."}}
	if f.Link != "" {
		step.Command = "ln -s " + f.Link + " " + f.Path
	}
	return step
}

// sysctlFile comes before what an administrator sets by hand, in 99-*.conf and sysctl.conf.
const sysctlFile = "/etc/sysctl.d/60-xentrace-fix.conf"

// A lasting is an interface with the commands that set it up.
type lasting struct {
	name     string
	commands []string
}

// Preview returns the files that Apply would write for a plan, were nothing
// applied yet.
func (f *Fixer) Preview(plan *Plan, persist Persistence) ([]Step, error) {
	if persist == "" {
		return nil, nil // the state is root's
	}
	state, err := f.store().load()
	if err != nil {
		return nil, explain(err)
	}
	state = state.clone()
	for _, step := range plan.Doable() {
		addWish(state, &step)
	}
	files, err := f.render(persist, state)
	if err == nil {
		err = f.checkFiles(files)
	}
	if err != nil {
		return nil, explain(err)
	}
	var steps []Step
	for n := range files {
		step := files[n].step()
		if files[n].Link == "" {
			step.Message = undone(plan.machine, state, files[n].of)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// addWish adds what a step sets. Which of the features the interface has is not
// looked up: the files name those that check knows.
func addWish(s *State, step *Step) {
	if step.change.sysctl != "" {
		s.Sysctls = append(s.Sysctls, SysctlState{Name: step.change.sysctl, Set: step.change.value})
		return
	}
	known := s.iface(step.identity)
	if known == nil {
		s.Interfaces = append(s.Interfaces, InterfaceState{Identity: step.identity, SetFeatures: map[string]bool{}})
		known = &s.Interfaces[len(s.Interfaces)-1]
	}
	if step.change.mtu != 0 {
		known.SetMTU = step.change.mtu
	}
	for _, name := range step.change.features {
		if step.has[name] {
			known.SetFeatures[name] = step.change.on
		}
	}
}

// render makes the files for everything that is set by the state file, and notes
// them there.
func (f *Fixer) render(persist Persistence, s *State) ([]File, error) {
	if persist == "" {
		return nil, nil
	}
	form := forms[persist]
	if _, err := os.Stat(f.disk().path(form.directory)); err != nil {
		return nil, fmt.Errorf("%w: --persist %s: there is no %s on this machine: choose another, one of %s", trace.ErrCannotRun, persist, form.directory, others(persist))
	}
	files := sysctlFiles(s)
	for n := range s.Interfaces {
		i := &s.Interfaces[n]
		if i.SetMTU == 0 && len(i.SetFeatures) == 0 {
			continue
		}
		wish, err := f.lasting(i)
		if err != nil {
			return nil, fmt.Errorf("%w: --persist %s: %w", trace.ErrCannotRun, persist, err)
		}
		for _, file := range form.files(wish) {
			file.of = wish.name
			files = append(files, file)
		}
	}
	for n := range files {
		file := &files[n]
		if file.Link == "" {
			file.Content = mark(file.Content)
		}
		f.note(s, file)
	}
	return files, nil
}

func sysctlFiles(s *State) []File {
	lines := ""
	for _, setting := range s.Sysctls {
		lines += setting.Name + " = " + setting.Set + "\n"
	}
	if lines == "" {
		return nil
	}
	return []File{{Path: sysctlFile, Content: lines, Mode: 0o644}}
}

// lasting returns the commands for an interface. They are those of the machine's
// own tools, so that nothing of this program is needed at the next start.
func (f *Fixer) lasting(i *InterfaceState) (lasting, error) {
	name := i.Identity.Name
	wish := lasting{name: name}
	if !plainName(name) {
		return wish, fmt.Errorf("the name of interface %s is none that a configuration file can safely hold", netdev.Interface{Name: name})
	}
	if own, err := netdev.Current(); err == nil {
		inum := own.Inum()
		if err := own.Close(); err != nil {
			return wish, err
		}
		if inMachine, err := isMachineNamespace(inum); err == nil && !inMachine {
			return wish, fmt.Errorf("this is not the machine's own network namespace: what sets up interface %s here has to set this too", name)
		}
		if i.Identity.NetNS != inum {
			return wish, fmt.Errorf("interface %s is in another network namespace: whatever sets that up has to set this too", name)
		}
	}
	if len(i.SetFeatures) > 0 {
		tool, err := f.tool("ethtool")
		if err != nil {
			return wish, err
		}
		command := tool + " -K " + name
		for _, feature := range slices.Sorted(maps.Keys(i.SetFeatures)) {
			command += " " + feature + " " + onOff(i.SetFeatures[feature])
		}
		wish.commands = append(wish.commands, command)
	}
	if i.SetMTU != 0 {
		tool, err := f.tool("ip")
		if err != nil {
			return wish, err
		}
		wish.commands = append(wish.commands, fmt.Sprintf("%s link set dev %s mtu %d", tool, name, i.SetMTU))
	}
	return wish, nil
}

// isMachineNamespace reports whether a network namespace is that of the first process, whose
// files in /etc are about its interfaces. Where process 1 may not be looked into it is that of
// kthreadd.
func isMachineNamespace(inum uint32) (bool, error) {
	target, err := procfs.Machine().Readlink(1, "ns/net")
	if comm, _ := os.ReadFile(procfs.Machine().Path(2, "comm")); err != nil && string(comm) == "kthreadd\n" {
		target, err = procfs.Machine().Readlink(2, "ns/net")
	}
	return target == fmt.Sprintf("net:[%d]", inum), err
}

func (f *Fixer) tool(name string) (string, error) {
	for _, directory := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		path := directory + "/" + name
		if info, err := os.Stat(f.disk().path(path)); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("the file would call %s, which is not installed: install it first", name)
}

// plainName reports whether a name means nothing to a shell, to systemd or to udev.
func plainName(name string) bool {
	for n, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (n == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return name != ""
}

// note writes down in the state that there will be a file, and the directory that
// is made for it.
func (f *Fixer) note(s *State, file *File) {
	add := func(state FileState) {
		if !slices.Contains(s.Files, state) {
			s.Files = append(s.Files, state)
		}
	}
	if _, err := os.Stat(f.directoryOf(file.Path)); errors.Is(err, fs.ErrNotExist) {
		add(FileState{Path: filepath.Dir(file.Path), Directory: true})
	}
	add(FileState{Path: file.Path, Link: file.Link})
}

func others(persist Persistence) string {
	var names []string
	for _, p := range Persistences() {
		if p != persist {
			names = append(names, string(p))
		}
	}
	return strings.Join(names, ", ")
}

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

func udevFiles(l lasting) []File {
	rule := fmt.Sprintf(`ACTION=="add|move", SUBSYSTEM=="net", KERNEL=="%s"`, l.name)
	for _, command := range l.commands {
		rule += fmt.Sprintf(`, RUN+="%s"`, command)
	}
	return []File{{Path: "/etc/udev/rules.d/90-xentrace-fix-" + l.name + ".rules", Content: rule + "\n", Mode: 0o644}}
}
