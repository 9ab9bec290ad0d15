package trace

import (
	"errors"
	"fmt"

	"xentrace/bpf"
	"xentrace/internal/event"
)

// errNoProbe refuses a probe to a tracer that was not started for one.
var errNoProbe = errors.New("the tracer was not started for a probe")

// SetProbe has every packet told of that is sent from the socket with this cookie
// (SO_COOKIE), whatever becomes of it; 0 for none. It takes [Options.Probe].
func (t *Tracer) SetProbe(cookie uint64) error {
	if !t.options.Probe {
		return errNoProbe
	}
	if err := t.attachment.collection.Variables[bpf.XentraceVarProbeCookie].Set(cookie); err != nil {
		return fmt.Errorf("probe for the kernel side: %w", err)
	}
	t.probe.Store(cookie)
	return nil
}

// isProbe tells whether the packet is one of the probe's. A copy that the driver
// went on with does not say whose it is.
func (t *Tracer) isProbe(p *event.Packet) bool {
	cookie := t.probe.Load()
	return cookie != 0 && p.Socket != nil && p.Socket.Cookie == cookie
}

// MissingAnswers says why the backend's answers cannot be seen; it is empty if they can.
func (t *Tracer) MissingAnswers() string { return t.rejections.missing }
