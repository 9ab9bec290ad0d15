package netdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch reports every interface of the namespace and then each change, until ctx ends
// or the watch fails with a last event [Failed]; then it closes the channel. The
// namespace must stay open until then.
//
// On a notification the watch reads the interface: an event holds the state at that
// time, and an interface that no longer exists is not reported. Notifications queue in
// the socket until they are received; the kernel drops them when it is full. The watch
// then drains the socket, reads all interfaces, sends the differences, and a [Synced]
// event with Lost set.
func (ns *Namespace) Watch(ctx context.Context) (<-chan Event, error) {
	w, err := ns.newWatcher()
	if err != nil {
		return nil, err
	}
	events := make(chan Event)
	go func() {
		defer close(events)
		w.run(ctx, events)
	}()
	return events, nil
}

type watcher struct {
	ns     *Namespace
	socket *os.File // RTNLGRP_LINK
	buffer []byte
	known  map[int]Interface // reported state, by index
	lost   bool              // the kernel dropped notifications since the last resync
	events chan<- Event
}

// Why receive returned no datagram.
var (
	errLost  = errors.New("notifications lost")    // the kernel dropped some
	errEmpty = errors.New("no notification waits") // only while some are lost
)

// newWatcher subscribes to the namespace's link notifications.
func (ns *Namespace) newWatcher() (*watcher, error) {
	release, err := ns.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	w := &watcher{ns: ns, known: make(map[int]Interface)}
	err = ns.Do(func() error {
		w.socket, err = subscribe()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch of network namespace %d: %w", ns.inum, err)
	}
	// A notification with the state of many virtual functions is larger than a page.
	w.buffer = make([]byte, 1<<18)
	return w, nil
}

// subscribe makes a socket for link notifications in the namespace of the calling
// thread. It is non-blocking, for the runtime's poller.
func subscribe() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_LINK - 1)}
	if err := unix.Bind(fd, address); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink socket: bind: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}

// run is the watch. It returns when ctx ends or after it sent Failed.
func (w *watcher) run(ctx context.Context, events chan<- Event) {
	w.events = events
	defer w.socket.Close()
	// A deadline in the past makes a waiting receive return.
	stop := context.AfterFunc(ctx, func() { w.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := w.resync(ctx, false)
	for err == nil {
		err = w.next(ctx)
	}
	if ctx.Err() == nil {
		w.send(ctx, Event{Kind: Failed, Err: fmt.Errorf("watch of network namespace %d: %w", w.ns.inum, err)})
	}
}

// next waits for notifications and handles them.
func (w *watcher) next(ctx context.Context) error {
	data, err := w.receive()
	switch {
	case errors.Is(err, errLost):
		// Until the socket has been drained the kernel drops without another ENOBUFS
		// (NETLINK_S_CONGESTED): what is read before that may be outdated.
		w.lost = true
		return nil
	case errors.Is(err, errEmpty):
		w.lost = false
		return w.resync(ctx, true)
	case err != nil:
		return err
	}
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return fmt.Errorf("netlink message: %w", err)
	}
	for i := range messages {
		if err := w.notified(ctx, &messages[i]); err != nil {
			return err
		}
	}
	return nil
}

// receive returns the next datagram from the kernel. It waits for one, unless
// notifications were lost and the socket is drained.
func (w *watcher) receive() ([]byte, error) {
	conn, err := w.socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	for {
		var n, flags int
		var from unix.Sockaddr
		var failure error
		err := conn.Read(func(fd uintptr) bool {
			n, _, flags, from, failure = unix.Recvmsg(int(fd), w.buffer, nil, 0)
			return failure != unix.EINTR && (failure != unix.EAGAIN || w.lost)
		})
		switch {
		case err != nil:
			return nil, fmt.Errorf("netlink socket: %w", err)
		case failure == unix.ENOBUFS, failure == nil && flags&unix.MSG_TRUNC != 0:
			return nil, errLost
		case failure == unix.EAGAIN:
			return nil, errEmpty
		case failure != nil:
			return nil, fmt.Errorf("netlink socket: receive: %w", failure)
		}
		if kernel, ok := from.(*unix.SockaddrNetlink); ok && kernel.Pid == 0 {
			return w.buffer[:n], nil
		}
	}
}

// notified handles one notification.
func (w *watcher) notified(ctx context.Context, message *syscall.NetlinkMessage) error {
	kind := message.Header.Type
	if kind != unix.RTM_NEWLINK && kind != unix.RTM_DELLINK || len(message.Data) < unix.SizeofIfInfomsg {
		return nil
	}
	info := nl.DeserializeIfInfomsg(message.Data)
	// With AF_BRIDGE these are about bridge ports, not links.
	if info.Family != unix.AF_UNSPEC {
		return nil
	}
	index := int(info.Index)
	if kind == unix.RTM_DELLINK {
		if err := w.deleted(ctx, index, message.Data[unix.SizeofIfInfomsg:]); err != nil {
			return err
		}
	}
	// Read even after a deletion: the index may have been reused since.
	return w.refresh(ctx, index)
}

func (w *watcher) deleted(ctx context.Context, index int, attributes []byte) error {
	last, ok := w.known[index]
	if !ok {
		return nil
	}
	delete(w.known, index)
	event := Event{Kind: Disappeared, Interface: last}
	attrs, err := nl.ParseRouteAttr(attributes)
	if err != nil {
		return fmt.Errorf("netlink message: %w", err)
	}
	for _, attr := range attrs {
		if len(attr.Value) != 4 {
			continue
		}
		value := int(int32(nl.NativeEndian().Uint32(attr.Value)))
		switch attr.Attr.Type {
		case unix.IFLA_NEW_NETNSID:
			event.Kind, event.To = Moved, w.ns.inumOfID(ctx, value)
		case unix.IFLA_NEW_IFINDEX:
			event.ToIndex = value
		}
	}
	return w.send(ctx, event)
}

// inumOfID returns the inode number of the namespace with the given nsid in this one, 0
// if not found. The kernel assigns an nsid when an interface moves between the two.
func (ns *Namespace) inumOfID(ctx context.Context, id int) uint32 {
	release, err := ns.hold()
	if err != nil {
		return 0
	}
	defer release()
	found, err := Namespaces(ctx)
	if err != nil {
		return 0
	}
	for _, other := range found {
		file, err := os.Open(other.Path)
		if err != nil {
			continue
		}
		number, err := ns.netlink.GetNetNsIdByFd(int(file.Fd()))
		file.Close()
		if err == nil && number == id {
			return other.Inum
		}
	}
	return 0
}

// refresh reads an interface and reports what changed. One that no longer exists is left
// to the notification of its deletion, which shows whether it moved.
func (w *watcher) refresh(ctx context.Context, index int) error {
	link, err := w.linkAt(index)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	now := w.ns.fromLink(link)
	before, known := w.known[index]
	if known && same(before, now) {
		return nil
	}
	if now, err = w.ns.ByIndex(index); errors.Is(err, ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return w.report(ctx, before, now)
}

func (w *watcher) report(ctx context.Context, before, now Interface) error {
	w.known[now.Index] = now
	if before.Index == 0 {
		return w.send(ctx, Event{Kind: Appeared, Interface: now})
	}
	if before.Name != now.Name {
		if err := w.send(ctx, Event{Kind: Renamed, Interface: now, Previous: before}); err != nil {
			return err
		}
		before.Name = now.Name
	}
	if same(before, now) {
		return nil
	}
	return w.send(ctx, Event{Kind: Changed, Interface: now, Previous: before})
}

// disappeared reports that an interface no longer exists, if it was known.
func (w *watcher) disappeared(ctx context.Context, index int) error {
	iface, known := w.known[index]
	if !known {
		return nil
	}
	delete(w.known, index)
	return w.send(ctx, Event{Kind: Disappeared, Interface: iface})
}

func (w *watcher) linkAt(index int) (netlink.Link, error) {
	release, err := w.ns.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	return w.ns.link(index)
}

// same compares what rtnetlink reports of an interface.
func same(a, b Interface) bool {
	return a.Name == b.Name && a.MTU == b.MTU && a.Up == b.Up && a.Running == b.Running &&
		bytes.Equal(a.HardwareAddr, b.HardwareAddr)
}

func (w *watcher) resync(ctx context.Context, lost bool) error {
	list, err := w.ns.Interfaces()
	if err != nil {
		return err
	}
	present := make(map[int]bool, len(list))
	for _, iface := range list {
		present[iface.Index] = true
		if err := w.report(ctx, w.known[iface.Index], iface); err != nil {
			return err
		}
	}
	for index := range w.known {
		if !present[index] {
			if err := w.disappeared(ctx, index); err != nil {
				return err
			}
		}
	}
	return w.send(ctx, Event{Kind: Synced, Lost: lost})
}

// send sends an event unless ctx ends.
func (w *watcher) send(ctx context.Context, event Event) error {
	event.Namespace = w.ns.inum
	select {
	case w.events <- event:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// EventKind is what happened to an interface.
type EventKind int

// The kinds of events.
const (
	// Appeared: the interface existed when the watch began, was created, or moved in.
	Appeared EventKind = iota + 1
	// Renamed: Previous holds the former name.
	Renamed
	// Changed: MTU, flags or hardware address; Previous holds the former state.
	Changed
	// Disappeared: the interface was deleted, or its namespace was.
	Disappeared
	// Moved: the interface moved to another namespace, To if known.
	Moved
	// Synced: all existing interfaces have been reported. The first follows the
	// interfaces that existed when the watch began. Later ones have Lost set:
	// notifications were lost and all interfaces were read again, which misses
	// interfaces that appeared and disappeared meanwhile.
	Synced
	// Failed: the watch of this namespace ended, Err has the reason.
	Failed
)

// String returns the kind in words.
func (k EventKind) String() string {
	names := [...]string{Appeared: "appeared", Renamed: "renamed", Changed: "changed",
		Disappeared: "disappeared", Moved: "moved", Synced: "synced", Failed: "failed"}
	if k < Appeared || int(k) >= len(names) {
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
	return names[k]
}

// Event is one thing that happened in a namespace.
type Event struct {
	Kind      EventKind
	Namespace uint32
	Interface Interface // current state; the last known one after it disappeared
	Previous  Interface // of Renamed and Changed
	To        uint32    // of Moved: its new namespace, 0 if unknown
	ToIndex   int       // of Moved: its index there, 0 if unknown
	Lost      bool      // of Synced
	Err       error     // of Failed
}
