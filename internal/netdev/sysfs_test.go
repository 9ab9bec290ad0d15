package netdev

import (
	"errors"
	"testing"
	"testing/fstest"
)

func TestReadEventChannels(t *testing.T) {
	files := func(events, threshold string) fstest.MapFS {
		all := fstest.MapFS{}
		for name, text := range map[string]string{"events": events, "spurious_events": "7\n", "jiffies_eoi_delayed": "0\n", "spurious_threshold": threshold} {
			all["sys/devices/vif-3/xenbus/"+name] = &fstest.MapFile{Data: []byte(text)}
		}
		return all
	}
	for events, want := range map[string]EventChannels{
		"90000\n": {90000, 7, 0, 1}, "-2\n": {1<<32 - 2, 7, 0, 1}, // an atomic_t that has wrapped
	} {
		if got, err := ReadEventChannels(files(events, "1\n"), "vif-3"); got != want || err != nil {
			t.Errorf("%q: %+v, error %v; want %+v", events, got, err, want)
		}
	}
	if _, err := ReadEventChannels(files("1", "1"), "vif-4"); !errors.Is(err, ErrNoEventCounters) {
		t.Errorf("another device: error %v", err)
	}
	if _, err := ReadEventChannels(files("many", "1"), "vif-3"); err == nil {
		t.Error("a text that is no number is read")
	}
}
