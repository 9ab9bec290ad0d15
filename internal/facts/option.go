package facts

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/remedy"
)

// OnCommandLine is where a kernel parameter was set.
const OnCommandLine = "the kernel command line"

// Option finds where a parameter of xen-netfront is set for the next boot, and its value. modprobe
// reads files by name, of which those in /etc hide others of the same name, and the kernel command
// line last; the last value wins. A built-in driver reads the command line alone. Both are empty
// for nowhere.
func Option(files fs.FS, driver remedy.Driver, parameter string) (place, value string) {
	for _, prefix := range []string{"xen_netfront.", "xen-netfront."} {
		if set, given := commandLine(files, prefix+parameter); given {
			return OnCommandLine, set
		}
	}
	if driver == remedy.BuiltIn {
		return "", ""
	}
	paths := make(map[string]string)
	for _, directory := range []string{"etc", "run", "usr/lib", "lib"} {
		names, _ := fs.Glob(files, directory+"/modprobe.d/*.conf")
		for _, name := range names {
			if base := path.Base(name); paths[base] == "" {
				paths[base] = name
			}
		}
	}
	for _, base := range slices.Sorted(maps.Keys(paths)) {
		content, _ := fs.ReadFile(files, paths[base])
		if line, set := optionIn(string(content), parameter); line > 0 {
			place, value = "/"+paths[base]+":"+strconv.Itoa(line), set
		}
	}
	return place, value
}

// optionIn finds the last line of a modprobe.d file that sets the parameter; 0 for none.
func optionIn(content, parameter string) (line int, value string) {
	number := 0
	for text := range strings.Lines(content) {
		number++
		fields := strings.Fields(text)
		if len(fields) < 3 || fields[0] != "options" || strings.ReplaceAll(fields[1], "-", "_") != "xen_netfront" {
			continue
		}
		for _, field := range fields[2:] {
			if set, is := strings.CutPrefix(field, parameter+"="); is {
				line, value = number, set
			}
		}
	}
	return line, value
}

// commandLine is a parameter's last value on the kernel command line.
func commandLine(files fs.FS, parameter string) (value string, given bool) {
	for word := range strings.FieldsSeq(text(files, "proc/cmdline")) {
		if set, is := strings.CutPrefix(word, parameter+"="); is {
			value, given = set, true
		}
	}
	return value, given
}
