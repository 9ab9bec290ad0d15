package procfs

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStartTime(t *testing.T) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	at, ok := StartTime(text)
	if age := time.Duration(now.Nano()) - at; !ok || age < 0 || age > time.Hour {
		t.Errorf("this process began %v ago, %v", age, ok)
	}
	for _, stat := range []string{"", "1", "1 (a) S", "1 ((((", "1 (" + strings.Repeat(")", 100)} {
		if _, ok := StartTime([]byte(stat)); ok {
			t.Errorf("%q has a start", stat)
		}
	}
	at, ok = StartTime([]byte("7 (a) b) S " + strings.Repeat("1 ", 18) + "250 9"))
	if !ok || at != 2500*time.Millisecond {
		t.Errorf("start is %v, %v: want 2.5 s", at, ok)
	}
}
