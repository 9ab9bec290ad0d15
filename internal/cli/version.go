package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"xentrace/internal/kernel"
)

func (a *app) versionCommand() *cobra.Command {
	w := newWriting()
	c := &cobra.Command{
		Use: "version [flags]", Short: "Print the version of xentrace, its build and the running kernel",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.printVersion(w.format) },
	}
	word(c, &w.format, "output", "o", "FORMAT", "output format", "text", "json")
	return c
}

func (a *app) printVersion(format string) error {
	v, err := versionOf(a.Build)
	if err != nil {
		return err
	}
	if format != "json" {
		return a.print(v.text())
	}
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.print(string(line) + "\n")
}

type versionInfo struct {
	Type         string  `json:"type"`
	Version      string  `json:"version"`
	Commit       *string `json:"commit"`   // null where neither linker nor Go tool recorded it
	Modified     *bool   `json:"modified"` // built from a tree with changes; null where not recorded
	Go           string  `json:"go"`
	Clang        *string `json:"clang"`
	Architecture string  `json:"architecture"`
	Kernel       string  `json:"kernel"`
	BTF          *bool   `json:"btf"` // of vmlinux; null where no /sys shows it
}

// versionOf collects what the linker, the Go tool and the kernel report.
func versionOf(build Build) (versionInfo, error) {
	v := versionInfo{
		Type: "version", Version: build.Version, Go: runtime.Version(), Architecture: runtime.GOARCH,
		Commit: known(build.Commit), Clang: known(build.Clang),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.addBuildInfo(info)
	}
	if v.Version == "" {
		v.Version = "unknown"
	}
	release, err := kernel.ReadRelease()
	if err != nil {
		return v, err
	}
	v.Kernel = release
	if kernel.ShowsTypes() {
		has := kernel.HasKernelTypes()
		v.BTF = &has
	}
	return v, nil
}

func known(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// addBuildInfo fills in what the Go tool recorded and the linker did not set.
func (v *versionInfo) addBuildInfo(info *debug.BuildInfo) {
	if v.Version == "" {
		v.Version = strings.Trim(info.Main.Version, "()") // (devel)
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && v.Commit == nil:
			v.Commit = known(s.Value)
		case s.Key == "vcs.modified":
			modified := s.Value == "true"
			v.Modified = &modified
		}
	}
}

func (v *versionInfo) text() string {
	commit := "unknown"
	if v.Commit != nil {
		commit = *v.Commit
		if v.Modified != nil && *v.Modified {
			commit += ", with changes"
		}
	}
	clang := "unknown"
	if v.Clang != nil {
		clang = *v.Clang
	}
	btf := "BTF unknown (no /sys: mount -t sysfs sysfs /sys)"
	if v.BTF != nil {
		btf = map[bool]string{true: "with BTF", false: "no BTF"}[*v.BTF]
	}
	return fmt.Sprintf("xentrace %s\ncommit   %s\ngo       %s, %s\nclang    %s\nkernel   %s, %s\n",
		v.Version, commit, strings.TrimPrefix(v.Go, "go"), v.Architecture, clang, v.Kernel, btf)
}
