package exporter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"xentrace/internal/exporter/feed"
)

// An awaited listener is on an address that the machine did not have. It serves once it has it.
type awaited struct{ net.Listener }

// listen opens the sockets.
func listen(ctx context.Context, o feed.Options) ([]net.Listener, error) {
	if o.Systemd {
		return passed(activation.Listeners())
	}
	var listeners []net.Listener
	for _, address := range o.Listen {
		l, err := listenOn(ctx, address)
		if err != nil {
			return nil, errors.Join(err, closeAll(listeners))
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// passed are the sockets that systemd passed: nil is one that is no listener.
func passed(listeners []net.Listener, err error) ([]net.Listener, error) {
	switch {
	case err != nil:
	case len(listeners) == 0:
		err = errors.New("systemd passed none; start it from a .socket unit")
	case slices.Contains(listeners, nil):
		listeners = slices.DeleteFunc(listeners, func(l net.Listener) bool { return l == nil })
		err = errors.Join(errors.New("one of them accepts no connections; use only ListenStream= in the .socket unit"), closeAll(listeners))
	}
	if err != nil {
		return nil, fmt.Errorf("systemd sockets: %w", err)
	}
	return listeners, nil
}

// listenOn listens on an address also if the machine does not have it yet: a service may start
// before the network is up.
func listenOn(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		return l, err
	}
	if l, err = (&net.ListenConfig{Control: freeBind}).Listen(ctx, "tcp", address); err != nil {
		return nil, err
	}
	return awaited{l}, nil
}

// freeBind allows any address. The option of IPv4 holds for IPv6 too.
func freeBind(_, _ string, socket syscall.RawConn) error {
	var failed error
	err := socket.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
	return errors.Join(err, failed)
}
