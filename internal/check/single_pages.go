package check

import (
	"errors"
	"io/fs"

	"xentrace/internal/event"
)

// Why it is not known whether page fragments are single pages.
const (
	// NoSwitch: a kernel without net.core.high_order_alloc_disable.
	NoSwitch = "this kernel has no net.core.high_order_alloc_disable"
	// SwitchElsewhere: settings of the whole machine are shown in its first network
	// namespace alone.
	SwitchElsewhere = "net.core.high_order_alloc_disable is not shown in this network namespace"
)

const singlePagesSwitch = "proc/sys/net/core/high_order_alloc_disable"

// readSinglePages tells whether new page fragments are single pages.
func (r *reader) readSinglePages() Known[bool] {
	value := r.number(singlePagesSwitch)
	if value.Missing == "" {
		return known(value.Value != 0)
	}
	if _, err := fs.Stat(r.source.Files, singlePagesSwitch); !errors.Is(err, fs.ErrNotExist) {
		return missing[bool](value.Missing)
	}
	// Its neighbour in the same table, which every kernel has.
	if r.exists("proc/sys/net/core/netdev_max_backlog") {
		return missing[bool](NoSwitch)
	}
	return missing[bool](SwitchElsewhere)
}

// done tells that the advice would change nothing on the machine.
func (m *Machine) done(a event.Advice) bool {
	return m.SinglePages.Missing == "" && m.SinglePages.Value && a.Command == "sysctl -w net.core.high_order_alloc_disable=1"
}
