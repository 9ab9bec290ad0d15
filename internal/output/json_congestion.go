package output

import (
	"maps"
	"strconv"
	"time"

	"xentrace/internal/event"
)

type ratio float64

func (r ratio) MarshalJSON() ([]byte, error) {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(float64(r), 'f', 4, 64), 64)
	return strconv.AppendFloat(nil, rounded, 'f', -1, 64), err
}

// ratioOf returns null where part or whole is not known.
func ratioOf(part, whole *uint64) *ratio {
	if part == nil || whole == nil {
		return nil
	}
	r := ratio(event.Ratio(*part, *whole))
	return &r
}

// A log2 is a histogram, upper bound to count, without the empty buckets; null if there
// is none.
type log2 event.Log2

func (h log2) MarshalJSON() ([]byte, error) {
	if h == nil {
		return []byte("null"), nil
	}
	var o object
	for bound, n := range event.Log2(h).All() {
		o = append(o, member{strconv.FormatUint(bound, 10), n})
	}
	return o.MarshalJSON()
}

type congestionObject struct {
	Type             string            `json:"type"`
	Time             stamp             `json:"time"`
	Ifname           string            `json:"ifname"`
	Ifindex          int               `json:"ifindex"`
	NetNS            uint32            `json:"netns"`
	Driver           string            `json:"driver"`
	DurationMS       int64             `json:"duration_ms"`
	Packets          uint64            `json:"packets"`
	Bytes            uint64            `json:"bytes"`
	PacketsPerSecond ratio             `json:"packets_per_second"`
	Queues           []queueObject     `json:"queues"`
	SizeBytes        log2              `json:"size_bytes"`
	Slots            log2              `json:"slots"`
	SmallPacketShare ratio             `json:"small_packet_share"`
	BytesPerSlot     ratio             `json:"bytes_per_slot"`
	PayloadBytes     uint64            `json:"payload_bytes"`
	FullShare        *ratio            `json:"full_share"`
	CompletionMeanUS *int64            `json:"completion_mean_us"`
	CompletionSample *uint64           `json:"completion_sample"`
	Copied           *uint64           `json:"copied"`
	Notifications    *ratio            `json:"notifications_per_packet"`
	ResponsesPerRun  *ratio            `json:"responses_per_run"`
	PPSBound         *ratio            `json:"pps_bound"`
	PPSBoundShare    *ratio            `json:"pps_bound_share"`
	Receive          *receiveObject    `json:"receive"`
	CPU              *cpuObject        `json:"cpu"`
	TCP              *acceptsObject    `json:"tcp"`
	SmallPackets     bool              `json:"small_packet_congestion"`
	Verdict          []limitObject     `json:"verdict"`
	Baseline         any               `json:"baseline"`
	Lost             lostRuns          `json:"lost"`
	Missing          map[string]string `json:"missing"`
}

type lostRuns struct {
	Recursion *uint64 `json:"recursion"`
}

type queueObject struct {
	Queue            int     `json:"queue"`
	Packets          uint64  `json:"packets"`
	Bytes            uint64  `json:"bytes"`
	Slots            uint64  `json:"slots"`
	Busy             uint64  `json:"busy"`
	Occupancy        log2    `json:"occupancy"`
	FullMS           *int64  `json:"full_ms"`
	Stops            uint64  `json:"stops"`
	WakeUS           log2    `json:"wake_us"`
	CompletionUS     log2    `json:"completion_us"`
	CompletionMeanUS *int64  `json:"completion_mean_us"`
	Responses        *uint64 `json:"responses"`
	ResponseRuns     *uint64 `json:"response_runs"`
	Notifications    *uint64 `json:"notifications"`
	Copied           *uint64 `json:"copied"`
	Interrupts       *uint64 `json:"interrupts"`
}

type receiveObject struct {
	Polls          uint64 `json:"polls"`
	Packets        uint64 `json:"packets"`
	PacketsPerPoll ratio  `json:"packets_per_poll"`
	Exhausted      uint64 `json:"budget_exhausted"`
}

type cpuObject struct {
	Count           int    `json:"count"`
	Hottest         int    `json:"hottest"`
	HottestSoftirq  ratio  `json:"hottest_softirq_share"`
	MeanSoftirq     ratio  `json:"mean_softirq_share"`
	HottestBusy     ratio  `json:"hottest_busy_share"`
	RestBusy        ratio  `json:"rest_busy_share"`
	Steal           ratio  `json:"steal_share"`
	InterruptsCPU   *int   `json:"interrupts_cpu"`
	InterruptsShare *ratio `json:"interrupts_share"`
}

type acceptsObject struct {
	Accepts              *uint64          `json:"accepts"`
	AcceptsPerSecond     *ratio           `json:"accepts_per_second"`
	AcceptUS             log2             `json:"accept_us"`
	ListenOverflows      *uint64          `json:"listen_overflows"`
	ListenDrops          *uint64          `json:"listen_drops"`
	Established          uint64           `json:"established"`
	EstablishedPerSecond ratio            `json:"established_per_second"`
	Opened               uint64           `json:"opened"`
	Closed               uint64           `json:"closed"`
	Listeners            []listenerObject `json:"listeners"`
}

type listenerObject struct {
	Port         uint16 `json:"port"`
	Accepts      uint64 `json:"accepts"`
	LongestQueue uint32 `json:"longest_queue"`
	Backlog      uint32 `json:"backlog"`
	Full         uint64 `json:"full"`
}

type limitObject struct {
	ID       event.LimitID  `json:"id"`
	Message  string         `json:"message"`
	Evidence evidence       `json:"evidence"`
	Advice   []adviceObject `json:"advice"`
}

type changeObject struct {
	Before *ratio `json:"before"`
	Now    *ratio `json:"now"`
}

// AppendCongestion appends a line of type congestion.
func (JSON) AppendCongestion(b []byte, c *event.Congestion) []byte {
	r := c.Report
	t := &r.Total
	o := congestionObject{
		Type: c.Type(), Time: stamp(r.Time), Ifname: r.Name, Ifindex: r.Index, NetNS: r.NetNS, Driver: r.Driver,
		DurationMS: r.Duration.Milliseconds(), Packets: t.Packets, Bytes: t.Bytes, PacketsPerSecond: ratio(r.Rate(t.Packets)),
		Queues: []queueObject{}, SizeBytes: log2(r.Sizes), Slots: log2(r.Slots),
		SmallPacketShare: ratio(t.SmallShare()), BytesPerSlot: ratio(t.BytesPerSlot()), PayloadBytes: t.Payload,
		CompletionMeanUS: in(time.Microsecond, t.MeanLatency), Copied: t.Copied,
		Notifications: ratioOf(t.Notifications, &t.Packets), ResponsesPerRun: ratioOf(t.Responses, t.Runs),
		Receive: receiveOf(r.Receive), CPU: cpuOf(r.CPU), TCP: acceptsOf(r), SmallPackets: c.Judgment.SmallPackets,
		Verdict: limitsOf(&c.Judgment), Baseline: baselineOf(c.Changes), Lost: lostRuns{r.Missed}, Missing: allMissing(r),
	}
	for i := range r.Queues {
		o.Queues = append(o.Queues, queueOf(&r.Queues[i]))
	}
	if t.Full != nil {
		o.FullShare = known(r.FullShare())
	}
	if t.Latency != nil {
		sample := uint64(event.CompletionSample)
		o.CompletionSample = &sample
	}
	if r.Bound != nil {
		o.PPSBound, o.PPSBoundShare = known(r.Bound.PacketsPerSecond), known(r.Bound.Share)
	}
	return encode(b, o)
}

func known(value float64) *ratio {
	r := ratio(value)
	return &r
}

// derivedFrom names the keys that are null where another one is, for the same reason.
var derivedFrom = map[string]string{
	"full_share":               "full_ms",
	"completion_mean_us":       "pps_bound",
	"completion_sample":        "completion_us",
	"response_runs":            "responses",
	"responses_per_run":        "responses",
	"pps_bound_share":          "pps_bound",
	"notifications_per_packet": "notifications",
	"accepts_per_second":       "accepts",
	"interrupts_cpu":           "interrupts",
	"interrupts_share":         "interrupts",
}

func allMissing(r *event.CongestionReport) map[string]string {
	missing := make(map[string]string)
	maps.Copy(missing, r.Missing)
	for key, from := range derivedFrom {
		if reason := r.Missing[from]; reason != "" {
			missing[key] = reason
		}
	}
	return missing
}

func queueOf(q *event.CongestionQueue) queueObject {
	return queueObject{
		Queue: q.Number, Packets: q.Packets, Bytes: q.Bytes, Slots: q.Slots, Busy: q.Busy, Occupancy: log2(q.Occupancy),
		FullMS: in(time.Millisecond, q.Full), Stops: q.Stops, WakeUS: log2(q.Wake), CompletionUS: log2(q.Latency),
		CompletionMeanUS: in(time.Microsecond, q.MeanLatency), Responses: q.Responses, ResponseRuns: q.Runs,
		Notifications: q.Notifications, Copied: q.Copied, Interrupts: q.Interrupts,
	}
}

func receiveOf(r *event.Receive) *receiveObject {
	if r == nil {
		return nil
	}
	return &receiveObject{r.Polls, r.Packets, ratio(event.Ratio(r.Packets, r.Polls)), r.Exhausted}
}

func cpuOf(c *event.CPULoad) *cpuObject {
	if c == nil {
		return nil
	}
	o := &cpuObject{
		Count: c.Count, Hottest: c.Hottest, HottestSoftirq: ratio(c.HottestInterrupts), MeanSoftirq: ratio(c.MeanInterrupts),
		HottestBusy: ratio(c.HottestBusy), RestBusy: ratio(c.RestBusy), Steal: ratio(c.Steal),
	}
	if c.InterruptShare != nil {
		o.InterruptsCPU, o.InterruptsShare = &c.InterruptsCPU, known(*c.InterruptShare)
	}
	return o
}

func acceptsOf(r *event.CongestionReport) *acceptsObject {
	t := r.TCP
	if t == nil {
		return nil
	}
	o := &acceptsObject{
		Accepts: t.Accepts, AcceptUS: log2(t.Accept), ListenOverflows: t.Overflows, ListenDrops: t.Drops,
		Established: t.Established, EstablishedPerSecond: ratio(r.Rate(t.Established)), Opened: t.Opened, Closed: t.Closed,
		Listeners: []listenerObject{},
	}
	if t.Accepts != nil {
		o.AcceptsPerSecond = known(r.Rate(*t.Accepts))
	}
	for _, l := range t.Listeners {
		o.Listeners = append(o.Listeners, listenerObject{l.Port, l.Accepts, l.Longest, l.Limit, l.Full})
	}
	return o
}

func limitsOf(j *event.Judgment) []limitObject {
	all := []limitObject{}
	for _, limit := range j.Limits {
		all = append(all, limitObject{limit.ID, limit.Meaning, evidence(limit.Evidence), adviceObjects(limit.Advice)})
	}
	return all
}

// baselineOf is how figures differ from an earlier run; null without one.
func baselineOf(changes []event.Change) any {
	if changes == nil {
		return nil
	}
	o := object{}
	for _, change := range changes {
		o = append(o, member{change.Key, changeObject{(*ratio)(change.Before), (*ratio)(change.Now)}})
	}
	return o
}
