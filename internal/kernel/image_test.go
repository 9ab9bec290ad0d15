package kernel

import "testing"

func TestBuildID(t *testing.T) {
	note := "\x04\x00\x00\x00\x03\x00\x00\x00\x03\x00\x00\x00GNU\x00\xab\xcd\xef\x00"
	other := "\x06\x00\x00\x00\x01\x00\x00\x00\x00\x01\x00\x00Linux\x00\x00\x00\x00\x00\x00\x00"
	for name, test := range map[string]struct{ notes, want string }{
		"alone":        {note, "abcdef"},
		"the second":   {other + note, "abcdef"},
		"of another":   {other, ""},
		"cut short":    {note[:18], ""},
		"nothing":      {"", ""},
		"a wild size":  {"\xff\xff\xff\xff" + note[4:], ""},
		"a wild size2": {note[:4] + "\xff\xff\xff\xff" + note[8:], ""},
	} {
		if got := BuildID([]byte(test.notes)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
