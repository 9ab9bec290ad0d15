package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/internal/kernel"
	"xentrace/internal/learn"
	"xentrace/internal/trace"
)

func TestLearn(t *testing.T) {
	types, err := kernel.FindTypes("")
	if err != nil {
		t.Fatal(err)
	}
	field, err := types.Field("", "sk_buff", "len")
	if err != nil {
		t.Fatal(err)
	}
	right := learn.Layout{"sk_buff.len": {Offset: int(field.Offset), Size: 4}}
	wrong := learn.Layout{"sk_buff.len": {Offset: int(field.Offset) + 4, Size: 4}}
	unsure := fmt.Errorf("%w: sk_buff.len: %w: 2 places: [112 116]", trace.ErrCannotRun, learn.ErrUnsure)
	unwritable := filepath.Join(t.TempDir(), "file", "types")
	if err := os.WriteFile(filepath.Dir(unwritable), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, to string
		layout   learn.Layout
		err      error
		status   int
		stdout   string
		stderr   string
		written  bool
	}{
		{"as the kernel says", "", right, nil, 0, "Found 1 members, each where the kernel's own types have it.\nNothing is written: this kernel has BTF.\n", "takes about 30 s", false},
		{"written all the same", "made/types", right, nil, 0, "Written to ", "", true},
		{"elsewhere", "made/types", wrong, nil, 3, "", fmt.Sprintf("sk_buff.len: found at %d (4 bytes), by the kernel's types at %d", field.Offset+4, field.Offset), false},
		{"not certain", "made/types", nil, unsure, 3, "", "sk_buff.len: not certain: 2 places", false},
		{"no place to write", unwritable, right, nil, 4, "", "types: mkdir " + filepath.Dir(unwritable) + ": not a directory; name another file with --to", false},
		{"onto a device", "/dev/null", right, nil, 2, "", "types: /dev/null is not a regular file", false},
		{"onto a directory", t.TempDir(), right, nil, 2, "", " is not a regular file", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args, to := []string{"learn"}, test.to
			if to != "" && !filepath.IsAbs(to) {
				to = filepath.Join(t.TempDir(), to)
			}
			if to != "" {
				args = append(args, "--to", to)
			}
			err := Run(t.Context(), args, System{
				Stdout: &stdout, Stderr: &stderr, Getenv: os.Getenv,
				Learn: func(_ context.Context, begun func() error) (learn.Layout, error) {
					if err := begun(); err != nil {
						return nil, err
					}
					return test.layout, test.err
				},
			})
			Report(&stderr, err)
			if Status(err) != test.status || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("status %d, stdout %q, stderr %q; want %d, %q, %q", Status(err), &stdout, &stderr, test.status, test.stdout, test.stderr)
			}
			info, err := os.Stat(to)
			if written := err == nil && info.Mode().IsRegular(); written != test.written {
				t.Errorf("written: %v, want %v", written, test.written)
			}
			if test.written && info.Mode() != 0o644 {
				t.Errorf("mode %v, want that everyone may read it", info.Mode())
			}
			if left, _ := fs.Glob(os.DirFS(filepath.Dir(to)), ".types-*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// The file that a symbolic link names is written, and the link stays.
func TestLearnWritesThroughALink(t *testing.T) {
	directory := t.TempDir()
	file, link := filepath.Join(directory, "types"), filepath.Join(directory, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("types", link)); err != nil {
		t.Fatal(err)
	}
	if to, err := target(link); err != nil || to != file {
		t.Errorf("%s, %v, want %s", to, err, file)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if to, err := target(link); err == nil {
		t.Errorf("a link to nothing: %s, want an error", to)
	}
}

func TestLearnIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr bytes.Buffer
	to := filepath.Join(t.TempDir(), "types")
	err := Run(ctx, []string{"learn", "--to", to}, System{
		Stdout: &stdout, Stderr: &stderr, Getenv: os.Getenv,
		Learn: func(ctx context.Context, _ func() error) (learn.Layout, error) {
			cancel()
			return nil, ctx.Err()
		},
	})
	if Status(err) != 0 || stdout.Len() > 0 || stderr.String() != "xentrace: interrupted; nothing is written\n" {
		t.Errorf("status %d, stdout %q, stderr %q", Status(err), &stdout, &stderr)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("types were written")
	}
}
