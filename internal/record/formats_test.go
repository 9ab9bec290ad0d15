package record

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/internal/event"
)

// Recordings of every format that was released are read whole. testdata holds one of each, as
// the release wrote it, plain and compressed, with every type of event: it is not made anew.
func TestReleasedFormats(t *testing.T) {
	for format := 1; format <= event.Format; format++ {
		plain := filepath.Join("testdata", "format-"+string(rune('0'+format))+".jsonl")
		content, err := os.ReadFile(plain)
		if err != nil {
			t.Fatalf("format %d: %v", format, err)
		}
		types := make(map[string]int)
		var summary struct {
			Interfaces []struct{ Packets uint64 }
		}
		for line := range bytes.Lines(content) {
			var object struct{ Type string }
			if err := json.Unmarshal(line, &object); err != nil {
				t.Fatal(err)
			}
			types[object.Type]++
			if object.Type == "summary" {
				if err := json.Unmarshal(line, &summary); err != nil {
					t.Fatal(err)
				}
			}
		}
		packets := uint64(0)
		for _, i := range summary.Interfaces {
			packets += i.Packets
		}
		for _, path := range []string{plain, plain + compressedSuffix} {
			lines, damages, source := replay(t, ReadOptions{}, path)
			read := make(map[string]int)
			for _, line := range lines {
				_, rest, _ := strings.Cut(line, `"type":"`)
				name, _, _ := strings.Cut(rest, `"`)
				read[name]++
			}
			read["summary"] = source.summaries.all().runs - len(source.Unfinished().Last) - int(source.Unfinished().Before)
			for _, name := range eventTypes {
				if types[name] == 0 || read[name] != types[name] {
					t.Errorf("%s: %d events of type %s, want %d", path, read[name], name, types[name])
				}
			}
			if sum := source.Summary().Sum().Packets; len(damages) != 0 || sum != packets || packets == 0 {
				t.Errorf("%s: damage %v; %d packets, want %d", path, damages, sum, packets)
			}
		}
	}
}
