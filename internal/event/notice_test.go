package event

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestNoticeIDsAreAll(t *testing.T) {
	source, err := os.ReadFile("notice.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []NoticeID
	for _, id := range regexp.MustCompile(`NoticeID = "([a-z_]+)"`).FindAllSubmatch(source, -1) {
		want = append(want, NoticeID(id[1]))
	}
	got := NoticeIDs()
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("lists %q, want %q", got, want)
	}
}
