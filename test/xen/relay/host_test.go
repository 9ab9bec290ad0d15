package main

import (
	"errors"
	"testing"
	"time"
)

func TestEndOfARun(t *testing.T) {
	tests := []struct {
		name    string
		session *session
		reason  error
		status  int
		says    string
	}{
		{"the program ended", &session{began: true, ended: true, code: 7}, nil, 7, ""},
		{"it ended as the guest became silent", &session{began: true, ended: true}, errStill, 0, ""},
		{"the guest hangs", &session{began: true}, errStill, exitDied, "the guest hangs: no sign of life for 5m0s"},
		{"the guest crashed", &session{began: true, gone: "it crashed"}, nil, exitDied, "the guest died while the program ran: it crashed"},
		{"too long", &session{began: true, settings: settings{limit: time.Minute}}, errRunLimit, exitLimit, "the program ran into its time limit of 1m0s"},
		{"no boot", &session{}, errBootLimit, exitBoot, "the guest did not boot: no program was started within the time a boot may take"},
		{"interrupted", &session{began: true}, errors.New("SIGTERM"), exitStopped, "interrupted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, err := tt.session.verdict(tt.reason, nil)
			said := ""
			if err != nil {
				said = err.Error()
			}
			if status != tt.status || said != tt.says {
				t.Errorf("status %d, %q; want %d, %q", status, said, tt.status, tt.says)
			}
		})
	}
}
