package fix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// explain adds to an error what can be done about it. What the machine does not
// allow wraps trace.ErrCannotRun.
func explain(err error) error {
	switch {
	case err == nil, errors.Is(err, trace.ErrCannotRun), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w: in a container, run xentrace fix on the machine itself or start the container with --privileged", trace.ErrCannotRun, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w: run it as root, with sudo; in a container, run it on the machine itself", trace.ErrCannotRun, err)
	case errors.Is(err, netdev.ErrNotFound), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
	}
	return err
}

// sentence makes one of an error's text.
func sentence(text string) string {
	text = strings.TrimPrefix(text, trace.ErrCannotRun.Error()+": ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
