package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"xentrace/internal/filter"
)

func (o *watchOptions) filterFlags(c *cobra.Command) {
	f := &o.filter
	none := cobra.NoFileCompletions
	list(c, &f.Hosts, "host", "", "ADDRESS", "only packets from or to this address or network", none, filter.ParseHost)
	list(c, &f.Ports, "port", "", "N", "only packets from or to this port", none, filter.ParsePort)
	list(c, &f.PIDs, "pid", "", "N", "only packets of this process's sockets", none, filter.ParsePID)
	list(c, &f.Comms, "comm", "", "NAME", "only packets of processes with this name", none, filter.ParseComm)
	list(c, &f.Causes, "cause", "", "NAME", "only drops with this cause: "+strings.Join(filter.CauseWords(), ", "), fixed(filter.CauseWords()...), filter.ParseCause)
	list(c, &f.Verdicts, "verdict", "", "NAME", "only packets with this verdict: "+strings.Join(filter.VerdictWords(), ", "), fixed(filter.VerdictWords()...), filter.ParseVerdict)
	parsed(c, &f.MinSlots, "min-slots", "", "N", "", "only packets of at least this many slots", filter.ParseMinSlots)
}
