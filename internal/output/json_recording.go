package output

import "xentrace/internal/event"

// The objects that only recordings have.

type startObject struct {
	Type       string                 `json:"type"`
	Time       stamp                  `json:"time"`
	Format     int                    `json:"format"`
	Segment    int                    `json:"segment"`
	Xentrace   buildObject            `json:"xentrace"`
	Command    []string               `json:"command"`
	BootID     nullable               `json:"boot_id"`
	UptimeMS   int64                  `json:"uptime_ms"`
	Hostname   nullable               `json:"hostname"`
	Kernel     nullable               `json:"kernel"`
	Machine    nullable               `json:"machine"`
	Xen        *xenObject             `json:"xen"`
	Interfaces []startInterfaceObject `json:"interfaces"`
	Check      []findingObject        `json:"check"`
}

type buildObject struct {
	Version nullable `json:"version"`
	Commit  nullable `json:"commit"`
}

type xenObject struct {
	Version nullable `json:"version"`
	Type    nullable `json:"type"`
}

type startInterfaceObject struct {
	Ifname     string          `json:"ifname"`
	Ifindex    int             `json:"ifindex"`
	NetNS      uint32          `json:"netns"`
	Driver     string          `json:"driver"`
	MTU        int             `json:"mtu"`
	Features   map[string]bool `json:"features"`
	Queues     int             `json:"queues"`
	Linearizes *bool           `json:"linearizes"`
}

// AppendStart appends the line of type start.
func (JSON) AppendStart(b []byte, s *event.Start) []byte {
	o := startObject{
		Type: s.Type(), Time: stamp(s.Time), Format: s.Format, Segment: s.Segment, Xentrace: buildObject{nullable(s.Version), nullable(s.Commit)},
		Command: append([]string{}, s.Command...), BootID: nullable(s.BootID), UptimeMS: s.Uptime.Milliseconds(), Hostname: nullable(s.Hostname),
		Kernel: nullable(s.Kernel), Machine: nullable(s.Machine), Interfaces: []startInterfaceObject{},
	}
	if s.Xen != nil {
		o.Xen = &xenObject{nullable(s.Xen.Version), nullable(s.Xen.Type)}
	}
	for i := range s.Interfaces {
		n := &s.Interfaces[i]
		o.Interfaces = append(o.Interfaces, startInterfaceObject{n.Name, n.Index, n.NetNS, n.Driver, n.MTU, n.Features, n.Queues, n.Linearizes})
	}
	if s.Check != nil {
		o.Check = []findingObject{}
	}
	for i := range s.Check {
		o.Check = append(o.Check, findingOf(&s.Check[i]))
	}
	return encode(b, o)
}

// A noticeObject has the notice's own fields after those that all have.
type noticeObject struct {
	Type    string         `json:"type"`
	Time    stamp          `json:"time"`
	ID      event.NoticeID `json:"id"`
	Message string         `json:"message"`
	event.Notice
}

// AppendNotice appends a line of type notice.
func (JSON) AppendNotice(b []byte, n *event.Notice) []byte {
	return encode(b, noticeObject{n.Type(), stamp(n.Time), n.ID, Sentence(n), *n})
}

// A Recording writes every event as a line of JSON, also those that JSON on standard output
// leaves out.
type Recording struct{ JSON }

// Append appends the line of an event.
func (r Recording) Append(b []byte, e event.Event) []byte {
	switch e := e.(type) {
	case *event.Start:
		return r.AppendStart(b, e)
	case *event.Interval:
		return r.AppendInterval(b, e)
	case *event.Notice:
		return r.AppendNotice(b, e)
	}
	return r.JSON.Append(b, e)
}
