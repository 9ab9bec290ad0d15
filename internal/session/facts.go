package session

import (
	"bytes"
	"context"
	"os"
	"sync"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/verdict"
)

const (
	singlePagesSetting = "/proc/sys/net/core/high_order_alloc_disable"

	// factsLast is how long facts are taken for true: many flows may stall at once.
	factsLast = 2 * time.Second
)

// Facts looks up what the advice for flows that stall depends on.
type Facts struct {
	mu     sync.Mutex
	device event.Device // that was asked about last
	facts  verdict.Facts
	asked  time.Time
}

// NewFacts returns one that knows nothing yet.
func NewFacts() *Facts { return &Facts{} }

// Of returns the facts about an interface; what cannot be found out is left out.
func (m *Facts) Of(d event.Device) verdict.Facts {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.device == d && time.Since(m.asked) < factsLast {
		return m.facts
	}
	m.device, m.asked = d, time.Now()
	m.facts = verdict.Facts{MTU: mtuOf(d)}
	if text, err := os.ReadFile(singlePagesSetting); err == nil {
		m.facts.SinglePages = string(bytes.TrimSpace(text)) == "1"
	}
	return m.facts
}

// mtuOf returns the MTU of an interface in whatever namespace, 0 if it is not known.
func mtuOf(d event.Device) int {
	namespace, err := netdev.Current()
	if err == nil && namespace.Inum() != d.NetNS {
		_ = namespace.Close()
		namespace, err = netdev.OpenNamespace(context.Background(), d.NetNS)
	}
	if err != nil {
		return 0
	}
	defer func() { _ = namespace.Close() }()
	found, err := namespace.ByIndex(d.Index)
	if err != nil {
		return 0
	}
	return found.MTU
}
