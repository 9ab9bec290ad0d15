package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
	"xentrace/internal/learn"
	"xentrace/internal/trace"
)

type learnOptions struct {
	*app
	to string
}

func (a *app) learnCommand() *cobra.Command {
	o := &learnOptions{app: a}
	c := &cobra.Command{
		Use: "learn [flags]", Short: "Find where a kernel without BTF keeps what xentrace reads",
		Long: `Makes packets, interfaces, sockets and threads of its own, in a network
namespace of its own, and looks in the kernel's memory where their numbers
are. The result is good for this build of the kernel; watch, hist, record,
probe and xentrace-exporter find it by themselves. Members without exactly
one place are named, and nothing is written. On a kernel with BTF the two
are compared. Takes about 30 s and needs root.`,
		Args: none, Example: "  sudo xentrace learn && sudo xentrace watch",
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	path(c, &o.to, "to", "", "write the types here (default: /var/cache/xentrace/types-RELEASE.btf; none on a kernel with BTF)")
	return c
}

func (o *learnOptions) run(ctx context.Context) error {
	release, err := kernel.ReadRelease()
	if err != nil {
		return err
	}
	id, err := kernel.RunningBuildID()
	if err != nil {
		return fmt.Errorf("%w: %w: learned types could not be matched to this build", trace.ErrCannotRun, err)
	}
	to := o.to
	if to == "" && !kernel.HasKernelTypes() {
		to = kernel.LearnedFile(release)
	}
	layout, err := o.Learn(ctx, func() (err error) {
		if to != "" {
			to, err = target(to)
		}
		if err == nil {
			o.console().Say("sending packets in a network namespace of its own; this takes about 30 s")
		}
		return err
	})
	if ctx.Err() != nil {
		o.console().Say("interrupted; nothing is written")
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	agree, err := against(layout)
	if err != nil {
		return err
	}
	said := fmt.Sprintf("Found %d members, twice in the same places.\n", len(layout))
	if agree > 0 {
		said = fmt.Sprintf("Found %d members, each where the kernel's own types have it.\n", agree)
	}
	if to == "" {
		return o.print(said + "Nothing is written: this kernel has BTF.\n")
	}
	if err := write(layout, id, to); err != nil {
		return err
	}
	return o.print(said + fmt.Sprintf("Written to %s, for kernel %s.\n", to, release))
}

// target returns the file that is to be written, and refuses what cannot be one before time is
// spent on the experiments. Renaming would replace a symbolic link, or a device such as /dev/null.
func target(to string) (string, error) {
	if real, err := filepath.EvalSymlinks(to); err == nil {
		to = real
	}
	if info, err := os.Lstat(to); err == nil && !info.Mode().IsRegular() {
		return "", usageError{fmt.Errorf("types: %s is not a regular file", to)}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", fmt.Errorf("types: %w; name another file with --to", err)
	}
	if err := unix.Access(filepath.Dir(to), unix.W_OK); err != nil {
		return "", fmt.Errorf("types: %s: %w; name another file with --to", filepath.Dir(to), err)
	}
	return to, nil
}

// against compares a layout with the kernel's own types, and returns how many members agree; 0
// where it has none.
func against(layout learn.Layout) (int, error) {
	if !kernel.HasKernelTypes() {
		return 0, nil
	}
	types, err := kernel.FindTypes("")
	if err != nil {
		return 0, err
	}
	agree, err := layout.Against(types)
	if err != nil {
		return 0, fmt.Errorf("%w: nothing is written: %w", trace.ErrCannotRun, err)
	}
	return agree, nil
}

// write puts the types in place at once, so that no reader sees a part of them.
func write(layout learn.Layout, buildID, to string) (err error) {
	content, err := trace.LearnedTypes(layout, buildID)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(to), ".types-*")
	if err != nil {
		return fmt.Errorf("types: %w", err)
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), to)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("types: %w", err), os.Remove(file.Name()))
	}
	return nil
}
