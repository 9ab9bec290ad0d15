package main

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const introduction = `xentrace contains software of others. Its licences follow, each with what it is of.
`

// libbpf is the licence of the headers that the BPF programs include.
//
//go:embed libbpf.txt
var libbpf string

// A component is software that is linked in.
type component struct {
	name        string // module and version
	root        string // directory of the module
	directories []string
}

// notice returns the names and licences of everything that is linked into the commands of
// the module in a directory, on every architecture.
func notice(directory string) (string, error) {
	components, err := linked(directory)
	if err != nil {
		return "", err
	}
	of := map[string][]string{libbpf: {"libbpf, headers"}} // by text
	for _, c := range components {
		texts, err := c.licences()
		if err != nil {
			return "", err
		}
		for _, text := range texts {
			of[text] = append(of[text], c.name)
		}
	}
	texts := make([]string, 0, len(of))
	for text, names := range of {
		slices.Sort(names)
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(slices.Compare(of[a], of[b]), cmp.Compare(a, b)) })
	var b strings.Builder
	b.WriteString(introduction)
	for _, text := range texts {
		b.WriteString("\n" + strings.Repeat("=", 78) + "\n")
		for _, name := range of[text] {
			b.WriteString(name + "\n")
		}
		b.WriteString(strings.Repeat("-", 78) + "\n\n" + text)
	}
	return b.String(), nil
}

// linked lists the modules whose packages are linked in, and Go's own library.
func linked(directory string) ([]*component, error) {
	goroot, err := output(directory, nil, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	goroot = strings.TrimSpace(goroot)
	byName := map[string]*component{"": {name: "Go, runtime and standard library", root: goroot, directories: []string{goroot}}}
	for _, architecture := range []string{"amd64", "arm64"} {
		list, err := output(directory, []string{"GOOS=linux", "CGO_ENABLED=0", "GOARCH=" + architecture}, "list", "-deps",
			"-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}\t{{$.Dir}}{{end}}{{end}}", "./cmd/...")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(list) {
			fields := strings.Split(strings.TrimSpace(line), "\t")
			if len(fields) != 3 {
				continue // of xentrace, or of Go
			}
			c := byName[fields[0]]
			if c == nil {
				c = &component{name: fields[0], root: fields[1]}
				byName[fields[0]] = c
			}
			c.directories = append(c.directories, fields[2])
		}
	}
	var components []*component
	for _, c := range byName {
		components = append(components, c)
	}
	return components, nil
}

// licences returns the texts of the licence files next to the packages and above them, up
// to the root of the module.
func (c *component) licences() ([]string, error) {
	files := make(map[string]bool)
	for _, directory := range c.directories {
		for ; strings.HasPrefix(directory, c.root); directory = filepath.Dir(directory) {
			for _, pattern := range []string{"LICENSE*", "LICENCE*", "COPYING*", "NOTICE*"} {
				found, err := filepath.Glob(filepath.Join(directory, pattern))
				if err != nil {
					return nil, err
				}
				for _, file := range found {
					files[file] = true
				}
			}
		}
	}
	var texts []string
	for file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		text := strings.TrimSpace(strings.ReplaceAll(string(content), "\r\n", "\n")) + "\n"
		if !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s: no licence file in %s; a dependency without a licence cannot be distributed", c.name, c.root)
	}
	return texts, nil
}

// output runs the go command.
func output(directory string, environment []string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = directory, append(os.Environ(), environment...)
	out, err := cmd.Output()
	if failure, is := errors.AsType[*exec.ExitError](err); is {
		err = fmt.Errorf("go %s: %w: %s", args[0], err, failure.Stderr)
	}
	return string(out), err
}
