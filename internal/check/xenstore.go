package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// From xen/interface/io/xs_wire.h: types of messages, and the most that one may
// carry.
const (
	xenstoreRead       = 2
	xenstoreError      = 16
	xenstoreMostBytes  = 4096
	xenstoreHeader     = 16
	xenstorePatience   = 3 * time.Second // it answers at once, unless the machine is an emulated one
	xenstoreNoSuchPath = "ENOENT"
)

// readXenstore asks the host's store, through the kernel. That needs root.
func readXenstore(ctx context.Context, paths []string) (map[string]string, error) {
	device, err := openXenbus()
	if err != nil {
		return nil, err
	}
	defer device.Close()
	deadline := time.Now().Add(xenstorePatience)
	if until, is := ctx.Deadline(); is && until.Before(deadline) {
		deadline = until
	}
	if err := device.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("xenstore: %w", err)
	}
	values := map[string]string{}
	for _, path := range paths {
		value, there, err := askXenstore(device, path)
		if err != nil {
			return nil, fmt.Errorf("xenstore: %s: %w", path, err)
		}
		if there {
			values[path] = value
		}
	}
	return values, nil
}

// openXenbus opens the kernel's door to the store, where the kernel is new or old.
func openXenbus() (*os.File, error) {
	file, err := os.OpenFile("/dev/xen/xenbus", os.O_RDWR|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = os.OpenFile("/proc/xen/xenbus", os.O_RDWR|unix.O_NONBLOCK, 0)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New(notThere("dev/xen/xenbus"))
	}
	return file, err
}

// askXenstore reads one path.
func askXenstore(device io.ReadWriter, path string) (value string, there bool, err error) {
	request := binary.NativeEndian.AppendUint32(nil, xenstoreRead)
	request = binary.NativeEndian.AppendUint64(request, 0) // no request's number, no transaction
	request = binary.NativeEndian.AppendUint32(request, uint32(len(path)+1))
	if _, err := device.Write(append(append(request, path...), 0)); err != nil {
		return "", false, err
	}
	header := make([]byte, xenstoreHeader)
	if _, err := io.ReadFull(device, header); err != nil {
		return "", false, err
	}
	length := binary.NativeEndian.Uint32(header[12:])
	if length > xenstoreMostBytes {
		return "", false, fmt.Errorf("an answer of %d bytes", length)
	}
	answer := make([]byte, length)
	if _, err := io.ReadFull(device, answer); err != nil {
		return "", false, err
	}
	text := strings.TrimRight(string(answer), "\x00")
	switch kind := binary.NativeEndian.Uint32(header); {
	case kind == xenstoreRead:
		return text, true, nil
	case kind == xenstoreError && text == xenstoreNoSuchPath:
		return "", false, nil
	case kind == xenstoreError:
		return "", false, errors.New(text)
	default:
		return "", false, fmt.Errorf("an answer of type %d", kind)
	}
}
