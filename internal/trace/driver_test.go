package trace

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

func TestModuleState(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	const none kernel.Module = 0
	// A look at one second after the other; 0 is no module.
	for _, test := range []struct {
		name    string
		modules []kernel.Module
		refused int // hooking into it fails so many times
		want    []moduleChange
	}{
		{"stays", []kernel.Module{7, 7}, 0, []moduleChange{{}, {}}},
		{"goes", []kernel.Module{7, none, none}, 0, []moduleChange{{}, {left: true, since: at(2)}, {}}},
		{"goes and comes", []kernel.Module{7, none, 8, 8}, 0, []moduleChange{{}, {left: true, since: at(2)}, {back: true}, {}}},
		{"goes and comes between two looks", []kernel.Module{7, 7, 8, 8}, 0, []moduleChange{{}, {}, {left: true, since: at(2), back: true}, {}}},
		{"its directory stays for a moment", []kernel.Module{7, none, 7, none, 8}, 0,
			[]moduleChange{{}, {left: true, since: at(2)}, {}, {}, {back: true}}},
		{"is seen before it can be attached to", []kernel.Module{7, none, 8, 8, 8}, 1,
			[]moduleChange{{}, {left: true, since: at(2)}, {back: true}, {back: true}, {}}},
		{"goes again before it could be attached to", []kernel.Module{7, none, 8, none, 9}, 1,
			[]moduleChange{{}, {left: true, since: at(2)}, {back: true}, {}, {back: true}}},
		{"goes twice", []kernel.Module{7, none, 8, none, 9}, 0,
			[]moduleChange{{}, {left: true, since: at(2)}, {back: true}, {left: true, since: at(4)}, {back: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s moduleState
			s.attached(at(0), 7)
			for n, module := range test.modules {
				now := at(n + 1)
				got := s.check(now, module, module != none)
				if got != test.want[n] {
					t.Errorf("look %d at module %d shows %+v, want %+v", n+1, module, got, test.want[n])
				}
				if !got.back {
					continue
				}
				if test.refused > 0 {
					test.refused--
					continue
				}
				s.attached(now, module)
			}
		})
	}
}

func TestPrivilegesToFollowTheDriver(t *testing.T) {
	for _, test := range []struct {
		name              string
		follows, sysAdmin bool
		backend           event.Backend
		want              []kernel.Capability
	}{
		{"a driver that stays", false, true, event.Kprobe, nil},
		{"kprobe where CAP_PERFMON suffices", true, false, event.Kprobe, []kernel.Capability{unix.CAP_SYSLOG}},
		{"kprobe on Debian", true, true, event.Kprobe, []kernel.Capability{unix.CAP_SYSLOG, unix.CAP_SYS_ADMIN}},
		{"tracepoints on Debian", true, true, event.Tracepoint, []kernel.Capability{unix.CAP_SYSLOG}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := driverModule{follows: test.follows}
			if got := d.privileges(test.backend, test.sysAdmin); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
