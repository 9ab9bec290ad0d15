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

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

// Trust is whether the backend may see pages that hold more than the packet. If it may
// not, the driver copies each packet first.
type Trust uint8

const (
	// Trusted is the default: packets are shared as they are.
	Trusted Trust = iota
	// Untrusted means that each packet is copied.
	Untrusted
	// Unsupported means that the driver cannot copy them: it is older than 2022 (XSA-403).
	Unsupported
)

// readTrust reads the driver's parameter and what the host reports of each
// interface. Either is enough.
func (r *reader) readTrust(ctx context.Context, m *Machine) {
	m.Trusted = r.trustParameter()
	var paths []string
	for n := range m.Interfaces {
		if device := m.Interfaces[n].xenbus(); device != "" {
			paths = append(paths, device, device+"/trusted", device+"/backend")
		}
	}
	values, err := r.source.Xenstore(ctx, paths)
	for n := range m.Interfaces {
		i := &m.Interfaces[n]
		_, there := values[i.xenbus()]
		switch {
		case err != nil:
			i.Trusted = missing[Trust]("xenstore cannot be read: " + why(err))
		case !there:
			i.Trusted = missing[Trust]("xenstore does not have the device")
		case values[i.xenbus()+"/trusted"] == "0":
			i.Trusted = known(Untrusted)
		default:
			i.Trusted = known(Trusted)
		}
	}
	if err == nil {
		r.readBackends(ctx, m, values)
	}
}

// xenbus is the interface's directory in xenstore; empty for another driver's.
func (i *Interface) xenbus() string {
	handle, is := strings.CutPrefix(i.BusInfo, "vif-")
	if !is || !i.IsNetfront() {
		return ""
	}
	return "device/vif/" + handle
}

func (r *reader) trustParameter() Known[Trust] {
	const parameters = "sys/module/xen_netfront/parameters"
	if !r.exists(parameters) {
		return missing[Trust](notThere(parameters))
	}
	content, err := r.read(parameters + "/trusted")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return known(Unsupported)
	case err == nil && strings.TrimSpace(content) == "N":
		return known(Untrusted)
	default:
		return tried(Trusted, err)
	}
}

func (m *Machine) bounce(i *Interface) event.Finding {
	f := about(i, Bounce)
	f.Evidence = []event.Fact{{Key: "parameter_trusted", Value: m.Trusted.trusts()}, {Key: "xenstore_trusted", Value: i.Trusted.trusts()}}
	cost := "so every packet is copied before it is sent: safety over speed."
	switch {
	case m.Trusted.Missing == "" && m.Trusted.Value == Unsupported:
		f.Message = "This driver shares whole pages with the backend: it is too old to copy packets (XSA-403)."
	case m.Trusted.Missing == "" && m.Trusted.Value == Untrusted:
		f.Status, f.Message = event.Warn, "The driver's parameter trusted=0 marks the backend as untrusted, "+cost
		f.Advice = m.advise(i, remedy.TrustSet, remedy.TrustBackend)
	case i.Trusted.Missing == "" && i.Trusted.Value == Untrusted:
		f.Status, f.Message = event.Warn, "xenstore marks this interface's backend as untrusted, "+cost
		f.Advice = m.advise(i, remedy.TrustInDom0)
	case i.Trusted.Missing != "":
		f.Status, f.Message = event.Unknown, "Whether the host marks the backend as untrusted is unknown: "+i.Trusted.Missing+"."
	case m.Trusted.Missing != "":
		f.Status, f.Message = event.Unknown, "Whether the driver's parameter marks the backend as untrusted is unknown: "+m.Trusted.Missing+"."
	default:
		f.Message = "The backend is trusted: packets are not copied for safety."
	}
	return f
}

func (k Known[T]) trusts() any {
	if trust, is := any(k.Value).(Trust); is && k.Missing == "" && trust != Unsupported {
		return trust == Trusted
	}
	return nil
}

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
			return nil, fmt.Errorf("xenstore: %.100s: %w", path, err)
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
		return "", false, fmt.Errorf("%.100s", text)
	default:
		return "", false, fmt.Errorf("an answer of type %d", kind)
	}
}
