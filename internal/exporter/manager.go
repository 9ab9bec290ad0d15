package exporter

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// A manager is the service manager, as sd_notify(3) describes it. Its socket is connected
// once: connecting is forbidden after privileges were dropped.
type manager struct {
	socket   net.Conn      // nil: there is none
	watchdog time.Duration // within which it wants to be notified; 0: never
}

// openManager connects to what NOTIFY_SOCKET names, if it is set.
func openManager(ctx context.Context, getenv func(string) string) (*manager, error) {
	m := &manager{}
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return m, nil
	}
	var err error
	if m.socket, err = (&net.Dialer{}).DialContext(ctx, "unixgram", path); err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	if pid := getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
			m.watchdog = time.Duration(us) * time.Microsecond
		}
	}
	return m, nil
}

// sendTimeout bounds how long a manager that does not read delays what sends: notices, and
// the end.
const sendTimeout = 100 * time.Millisecond

// send reports a state. One that cannot be sent in time is dropped: the next one follows.
func (m *manager) send(state string) {
	if m.socket != nil {
		_ = m.socket.SetWriteDeadline(time.Now().Add(sendTimeout))
		_, _ = m.socket.Write([]byte(state))
	}
}

// feedWatchdog notifies the manager twice as often as it wants, as long as alive succeeds;
// one that fails is tried again soon.
func (m *manager) feedWatchdog(ctx context.Context, alive func(context.Context) error) {
	if m.socket == nil || m.watchdog == 0 {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if alive(ctx) == nil {
			m.send("WATCHDOG=1")
			timer.Reset(m.watchdog / 2)
		} else {
			timer.Reset(m.watchdog / 20)
		}
	}
}

func (m *manager) close() {
	if m.socket != nil {
		_ = m.socket.Close()
	}
}
