package fix

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"xentrace/internal/check"
)

// maxUndone bounds a sentence.
const maxUndone = 5

// settingOf is what configuration files call a feature.
func settingOf(feature string) string {
	switch {
	case slices.Contains(scatterGather, feature):
		return "sg"
	case feature == "tx-generic-segmentation":
		return "gso"
	}
	return "tso"
}

// undone names the lines of other files that would undo at the next boot what a file of an
// interface, or of the machine, makes last; empty for none.
func undone(m *check.Machine, s *State, ifname string) string {
	if m == nil {
		return ""
	}
	var lines []string
	for _, o := range undoing(m, s, ifname) {
		if strings.Contains(o.Place, "xentrace-fix") { // which is written anew
			continue
		}
		line := o.Place
		if o.Setting == "mtu" || o.Setting == HighOrder {
			line += fmt.Sprintf(" (%s %d)", o.Setting, o.Value)
		} else {
			line += fmt.Sprintf(" (%s off)", o.Setting)
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	more := ""
	if len(lines) > maxUndone {
		lines, more = lines[:maxUndone], fmt.Sprintf(" and %d more", len(lines)-maxUndone)
	}
	return "May be undone at the next boot, so change these lines too: " + strings.Join(lines, ", ") + more + "."
}

func undoing(m *check.Machine, s *State, ifname string) []check.Origin {
	var all []check.Origin
	if ifname == "" {
		for _, set := range s.Sysctls {
			if set.Name == HighOrder && set.Set == "1" {
				all = append(all, slices.DeleteFunc(m.Undoing("", HighOrder, 1), overruled)...)
			}
		}
		return all
	}
	for n := range s.Interfaces {
		i := &s.Interfaces[n]
		if i.Identity.Name != ifname {
			continue
		}
		var settings []string
		for _, feature := range slices.Sorted(maps.Keys(i.SetFeatures)) {
			if setting := settingOf(feature); i.SetFeatures[feature] && !slices.Contains(settings, setting) {
				settings = append(settings, setting)
			}
		}
		for _, setting := range settings {
			all = append(all, m.Undoing(ifname, setting, 0)...)
		}
		if i.SetMTU != 0 {
			all = append(all, m.Undoing(ifname, "mtu", i.SetMTU)...)
		}
	}
	return all
}

// overruled reports a line of sysctl.d that is read before this program's file, whatever its
// directory: sysctl.d(5) goes by the names of files.
func overruled(o check.Origin) bool {
	file, _, _ := strings.Cut(o.Place, ":")
	return path.Base(path.Dir(file)) == "sysctl.d" && path.Base(file) <= path.Base(sysctlFile)
}
