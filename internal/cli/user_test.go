package cli

import (
	"os/user"
	"testing"

	"xentrace/internal/kernel"
)

func TestParseUser(t *testing.T) {
	if _, err := user.Lookup("root"); err != nil {
		t.Skip("needs /etc/passwd")
	}
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
