package kernel

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRunningRelease(t *testing.T) {
	got, err := ReadRelease()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || got == "" || got != strings.TrimSpace(string(text)) {
		t.Errorf("%q, the kernel says %q (%v)", got, text, err)
	}
}

func TestTicksPerSecond(t *testing.T) {
	for _, test := range []struct {
		tick  time.Duration
		ticks int
		fails bool
	}{
		{10 * time.Millisecond, 100, false},
		{4 * time.Millisecond, 250, false},
		{3333333, 300, false},
		{time.Millisecond, 1000, false},
		{976562, 1024, false},
		{0, 0, true},
		{2 * time.Second, 0, true},
	} {
		if got, err := ticksPerSecond(test.tick); got != test.ticks || (err != nil) != test.fails {
			t.Errorf("%s: %d, error %v; want %d", test.tick, got, err, test.ticks)
		}
	}
	got, err := TicksPerSecond()
	if err != nil || got < 24 || got > 1200 { // the range of HZ in kernel/Kconfig.hz over all architectures
		t.Errorf("the running kernel has %d ticks a second, error %v", got, err)
	}
}

func TestLockdownModes(t *testing.T) {
	for _, test := range []struct {
		text    string
		mode    Lockdown
		forbids string
		tracing bool
		fails   bool
	}{
		{"[none] integrity confidentiality\n", LockdownNone, "", false, false},
		{"none [integrity] confidentiality\n", LockdownIntegrity, "integrity mode: it allows tracing", false, false},
		{"none integrity [confidentiality]\n", LockdownConfidentiality, "forbids BPF programs to read kernel memory", true, false},
		{"none [integrity]\n", LockdownIntegrity, "integrity", false, false},
		{"none integrity\n", "", "", false, true},
		{"[sealed] none\n", "", "", false, true},
	} {
		t.Run(test.text, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lockdown")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			mode, err := readLockdown(path)
			if mode != test.mode || (err != nil) != test.fails {
				t.Fatalf("mode %q, error %v; want %q", mode, err, test.mode)
			}
			if text := mode.Forbids(); !strings.Contains(text, test.forbids) || (text == "") != (test.forbids == "") || mode.ForbidsTracing() != test.tracing {
				t.Errorf("forbids %q, tracing %t; want %q, %t", text, mode.ForbidsTracing(), test.forbids, test.tracing)
			}
		})
	}
	if mode, err := readLockdown(filepath.Join(t.TempDir(), "none")); mode != LockdownAbsent || err != nil || mode.Forbids() != "" {
		t.Errorf("without the file: mode %q, error %v", mode, err)
	}
	if _, err := ReadLockdown(); err != nil {
		t.Errorf("the running kernel: %v", err)
	}
}

func capabilitiesOf(list ...Capability) Capabilities {
	var set Capabilities
	for _, capability := range list {
		set |= 1 << uint(capability)
	}
	return set
}

// Root without a capability is in a container or a confined unit, where sudo changes nothing.
func TestHowToGain(t *testing.T) {
	for uid, want := range map[int]string{1000: "run with sudo", 0: "--cap-add"} {
		if how := HowToGain(uid); !strings.Contains(how, want) || strings.Contains(how, "sudo") == (uid == 0) {
			t.Errorf("uid %d: %s", uid, how)
		}
	}
}

func TestMissingCapabilities(t *testing.T) {
	all := capabilitiesOf(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SYSLOG, unix.CAP_SYS_RESOURCE)
	for _, test := range []struct {
		name    string
		has     Capabilities
		last    Capability
		missing string
	}{
		{"all", all, unix.CAP_LAST_CAP, ""},
		{"none", 0, unix.CAP_LAST_CAP, "CAP_BPF CAP_PERFMON CAP_SYS_ADMIN CAP_NET_ADMIN CAP_SYSLOG CAP_SYS_RESOURCE"},
		{"CAP_SYS_ADMIN includes two", capabilitiesOf(unix.CAP_SYS_ADMIN), unix.CAP_LAST_CAP, "CAP_NET_ADMIN CAP_SYSLOG CAP_SYS_RESOURCE"},
		{"the small set", capabilitiesOf(unix.CAP_BPF, unix.CAP_PERFMON), unix.CAP_PERFMON + 1, "CAP_SYS_ADMIN CAP_NET_ADMIN CAP_SYSLOG CAP_SYS_RESOURCE"},
		{"a kernel that knows neither asks for nothing but CAP_SYS_ADMIN", 0, unix.CAP_AUDIT_READ, "CAP_SYS_ADMIN CAP_NET_ADMIN CAP_SYSLOG CAP_SYS_RESOURCE"},
		{"the same with it", all, unix.CAP_AUDIT_READ, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, need := range test.has.Missing(test.last) {
				got = append(got, need.Name)
				if !strings.HasPrefix(need.Reason, "to ") {
					t.Errorf("%s: reason %q", need.Name, need.Reason)
				}
			}
			if strings.Join(got, " ") != test.missing {
				t.Errorf("missing %v, want %s", got, test.missing)
			}
		})
	}
	if first := Capabilities(0).Missing(unix.CAP_AUDIT_READ)[0]; !first.Required || !strings.Contains(first.Reason, "no capability of its own") {
		t.Errorf("a kernel without CAP_BPF: %+v", first)
	}
}

// The kernel prints a bit for each capability that it knows.
func TestLastCapability(t *testing.T) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, bounding, _ := strings.Cut(string(text), "CapBnd:\t")
	bounding, _, _ = strings.Cut(bounding, "\n")
	set, err := strconv.ParseUint(bounding, 16, 64)
	last, lastErr := LastCapability()
	if err != nil || lastErr != nil || last < unix.CAP_AUDIT_READ || set>>uint(last+1) != 0 {
		t.Errorf("last capability %d, bounding set %s: %v, %v", last, bounding, err, lastErr)
	}
}

// TestOwnCapabilities compares with what the kernel prints for this process.
func TestOwnCapabilities(t *testing.T) {
	got, err := ReadCapabilities()
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "CapEff:\t")
	want, digits := parseHex([]byte(rest))
	if digits != 16 || uint64(got) != want {
		t.Errorf("%016x, the kernel prints %016x", uint64(got), want)
	}
}
