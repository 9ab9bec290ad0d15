package netdev

import "testing"

const conntrackHead = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n"

func TestParseConntrack(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		want  Conntrack
		fails bool
	}{
		"two CPUs":        {conntrackHead + "00000001 0 0 0 0 0 0 0 0 00000003 0000000a 00000001 0 0 0 0 0\n00000001 0 0 0 0 0 0 0 0 00000010 00000000 00000000 0 0 0 0 0\n", Conntrack{19, 10, 1}, false},
		"a line cut off":  {conntrackHead + "00000001 0 0 0 0 0 0 0 0 00000003", Conntrack{3, 0, 0}, false},
		"no CPU":          {conntrackHead, Conntrack{}, true},
		"nothing":         {"", Conntrack{}, true},
		"other numbers":   {"insert_failed\nmany\n", Conntrack{}, true},
		"too many fields": {"insert_failed\n2 3 4\n", Conntrack{InsertFailed: 2}, false},
	} {
		got, err := parseConntrack(test.text)
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("%s: %+v, error %v; want %+v", name, got, err, test.want)
		}
	}
}
