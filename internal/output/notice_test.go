package output

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
)

// Every notice has a sentence, of its own, with the fields that it is about.
func TestEveryNoticeHasASentence(t *testing.T) {
	queue, yes, no := 3, true, false
	notice := event.Notice{
		Time: time.Unix(1, 0), Device: event.Device{Name: "eth7", Index: 2, NetNS: 4026531840}, Previous: "old0", Driver: "veth",
		Backend: event.Kprobe, Queue: &queue, Linearizes: &yes, Evidence: "the evidence", DurationMS: 4200, StepMS: -1500, Count: 77, Reason: "the reason",
	}
	fields := map[event.NoticeID][]string{
		event.NoticeWaiting:                {"waiting"},
		event.NoticeInterfaceAdded:         {"eth7", "appeared"},
		event.NoticeInterfaceRemoved:       {"eth7", "gone"},
		event.NoticeInterfaceRenamed:       {"old0 is now called eth7"},
		event.NoticeInterfaceMoved:         {"eth7", "moved"},
		event.NoticeInterfaceUnsupported:   {"eth7", "veth", "kprobe"},
		event.NoticeInterfaceFailed:        {"eth7", "the reason"},
		event.NoticeNamespaceUnwatched:     {"4026531840", "the reason"},
		event.NoticeDriverUnloaded:         {"unloaded"},
		event.NoticeDriverReloaded:         {"4.2 s"},
		event.NoticeDriverAttachFailed:     {"the reason"},
		event.NoticeDriverDetachFailed:     {"the reason"},
		event.NoticeSettleFailed:           {"the reason"},
		event.NoticeDriverUnknown:          {"the reason"},
		event.NoticeDriverHeld:             {"--backend kprobe"},
		event.NoticeLinearize:              {"linearizes", "the evidence"},
		event.NoticeUnmonitored:            {"the reason"},
		event.NoticeSuspended:              {"4.2 s"},
		event.NoticeClockStep:              {"-1.5 s"},
		event.NoticeQueueStuck:             {"eth7: transmit queue 3 has been full for 4 s", "xl network-attach"},
		event.NoticeQueueRecovered:         {"eth7: transmit queue 3 recovered after 4 s"},
		event.NoticeStacksUnavailable:      {"the reason"},
		event.NoticeDropStacksUnavailable:  {"the reason"},
		event.NoticeRejectedUnavailable:    {"the reason"},
		event.NoticeSuspendUnavailable:     {"the reason"},
		event.NoticeQueuesUnavailable:      {"the reason"},
		event.NoticeRecordingPaused:        {"recording is paused: the reason"},
		event.NoticeRecordingResumed:       {"4.2 s"},
		event.NoticeRecordsSuppressed:      {"77 records", "--rate"},
		event.NoticeConnectionsUnavailable: {"the reason"},
		event.NoticeOwnersUnavailable:      {"the reason"},
	}
	said := make(map[string]event.NoticeID)
	for _, id := range noticeIDs(t) {
		notice.ID = id
		sentence := Sentence(&notice)
		if sentence == "" || len(fields[id]) == 0 {
			t.Errorf("%s: sentence %q, %d fields", id, sentence, len(fields[id]))
		}
		if other, twice := said[sentence]; twice {
			t.Errorf("%s and %s are %q", other, id, sentence)
		}
		said[sentence] = id
		for _, field := range fields[id] {
			if !strings.Contains(sentence, field) {
				t.Errorf("%s: no %q in %q", id, field, sentence)
			}
		}
	}
	if len(said) != len(fields) {
		t.Errorf("%d notices, %d expected", len(said), len(fields))
	}
	for want, linearizes := range map[string]*bool{"driver linearizes": &yes, "driver drops": &no, "unknown whether": nil} {
		notice.ID, notice.Linearizes = event.NoticeLinearize, linearizes
		if got := Sentence(&notice); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want it to begin with %q", got, want)
		}
	}
}

// noticeIDs are the constants in the source.
func noticeIDs(t *testing.T) []event.NoticeID {
	t.Helper()
	source, err := os.ReadFile("../event/notice.go")
	if err != nil {
		t.Fatal(err)
	}
	var ids []event.NoticeID
	for _, match := range regexp.MustCompile(`(?m)^\tNotice\w+ +NoticeID = "(\w+)"$`).FindAllSubmatch(source, -1) {
		ids = append(ids, event.NoticeID(match[1]))
	}
	return ids
}
