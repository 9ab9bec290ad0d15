package cli

import (
	"os/user"
	"testing"

	"xentrace/internal/kernel"
	"xentrace/test/need"
)

func TestParseUser(t *testing.T) {
	_, err := user.Lookup("root")
	need.That(t, err == nil, "root in /etc/passwd")
	for text, want := range map[string]kernel.User{
		"root": {}, "0": {}, "4000000000": {UID: 4000000000, GID: 4000000000},
	} {
		if got, err := parseUser(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v: want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "4294967295", "no such user"} {
		if got, err := parseUser(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, got)
		}
	}
}
