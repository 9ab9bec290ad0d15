package check

import (
	"strings"
	"testing"
	"time"

	"xentrace/test/memory"
)

// Only what the driver itself wrote is evidence.
func TestMessagesOfTheDriver(t *testing.T) {
	const ofEth0, ofVif = "\n SUBSYSTEM=net\n DEVICE=n2\n", "\n SUBSYSTEM=xen\n DEVICE=+xen:vif-0\n"
	devices := logDevices{"eth0": true, "net n2": true}
	for _, test := range []struct {
		name, record string
		want         string // the message; empty for none
	}{
		{"of an interface", "1,7,9,-;net eth0: Disabled for further use" + ofEth0, "disabled"},
		{"of an interface renamed since", "1,7,9,-;net eth9: Disabled for further use" + ofEth0, "disabled"},
		{"of another interface", "1,7,9,-;net eth9: Disabled for further use\n SUBSYSTEM=net\n DEVICE=n9\n", ""},
		{"of an interface of that name, without its device", "1,7,9,-;net eth0: Disabled for further use\n", ""},
		{"of the device", "4,7,9,-;vif vif-0: only created 2 queues" + ofVif, "fewer_queues"},
		{"of the device, with the interface", "4,7,9,-;vif vif-0 eth0 (unregistered): no queues" + ofVif, "no_queues"},
		{"of the device of a backend", "4,7,9,-;vif vif-1-0 vif1.0: no queues\n SUBSYSTEM=xen-backend\n DEVICE=+xen-backend:vif-1-0\n", ""},
		{"of the device, by text alone", "4,7,9,-;vif vif-0: no queues\n", ""},
		{"of the module", "1,7,9,-;xen_netfront: can't alloc rx grant refs\n", "no_grants"},
		{"of the module, a packet", "1,7,9,-;xen_netfront: xennet: skb->len = 70000, too big for wire format\n", "too_big"},
		{"of an old module", "1,7,9,-;xennet: skb rides the rocket: 19 slots\n", "rides_the_rocket"},
		{"by dynamic debug with everything", "7,7,9,-;[812] xen_netfront:xennet_start_xmit:612: xen_netfront: xennet: skb rides the rocket: 19 slots\n", "rides_the_rocket"},
		{"a warning", "4,7,9,-;misaligned skb allocated\n", "misaligned"},
		{"the warning of XDP in other words", "4,7,9,-;tmpfs: Driver BUG: missing reserved tailroom\n", ""},
		{"written by a process", "12,7,9,-;net eth0: Disabled for further use" + ofEth0, ""},
		{"written by a process, of the module", "15,7,9,-;xennet: skb rides the rocket: 19 slots\n", ""},
		{"without a priority", "x,7,9,-;xennet: skb rides the rocket: 19 slots\n", ""},
		{"a mount option", "3,7,9,-;overlayfs: unrecognized mount option \"net eth0: Disabled for further use\" or missing value\n", ""},
		{"a mount option with line ends", "3,7,9,-;tmpfs: Unknown parameter 'x\\x0anet eth0: Disabled for further use'\n", ""},
		{"the name of a program", "6,7,9,-;xennet: [77]: segfault at 0 ip 0 sp 0 error 4 in skb rides the rocket[400000+1000]\n", ""},
		{"a name and a file", "6,7,9,-;net eth0: [77]: segfault at 0 ip 0 sp 0 error 4 in Disabled for further use[400000+1000]" + ofEth0, ""},
		{"a warning in other words", "4,7,9,-;tmpfs: Bad value for 'misaligned skb allocated'\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := parseLog(LogRecords{All: []string{test.record}}, devices)
			for name, n := range log.Counts {
				if name != test.want || n != 1 {
					t.Errorf("%d of %s are counted, want %q", n, name, test.want)
				}
			}
			if test.want != "" && log.Counts[test.want] != 1 {
				t.Errorf("%s is counted %d times, want 1", test.want, log.Counts[test.want])
			}
		})
	}
}

func TestSuppressedMessagesOfTheKernel(t *testing.T) {
	log := parseLog(LogRecords{All: []string{
		"4,7,9,-;net_ratelimit: 12 callbacks suppressed\n", "12,8,9,-;net_ratelimit: 100 callbacks suppressed\n",
		"4,9,9,-;tmpfs: Unknown parameter 'net_ratelimit: 1000 callbacks suppressed'\n",
	}}, nil)
	if log.Limited != 12 || !log.Wrapped || log.Begins != 9*time.Microsecond {
		t.Errorf("%d suppressed, wrapped %v, begins at %v; want 12, true and 9 µs", log.Limited, log.Wrapped, log.Begins)
	}
}

// What ec2rl's modules find with grep is found, whoever wrote it.
func TestRocketsOfAnyone(t *testing.T) {
	log := parseLog(LogRecords{All: []string{"12,7,9,-;a skb rides the rocket\n", "1,8,9,-;xennet: skb rides the rocket: 19 slots\n"}, Cleared: 1}, nil)
	if log.Rockets != 2 || log.RocketsShown != 1 || log.Counts[rocket] != 1 {
		t.Errorf("%d, %d of them shown, %d of the driver: want 2, 1 and 1", log.Rockets, log.RocketsShown, log.Counts[rocket])
	}
}

func FuzzLogRecord(f *testing.F) {
	f.Add("1,7,9,-;net eth0: Disabled for further use\n SUBSYSTEM=net\n DEVICE=n2\n")
	f.Add("15,18446744073709551616,18446744073709551615,-;xennet: skb rides the rocket: 19 slots\n")
	f.Add("4,7,-9,c;net_ratelimit: -12 callbacks suppressed\n")
	f.Add("7,7,9,-;" + strings.Repeat("xen_netfront:", 500))
	f.Add(";\n SUBSYSTEM=\n DEVICE=")
	f.Fuzz(func(t *testing.T, record string) {
		memory.Within(t, 1<<20+64*uint64(len(record)), func() {
			log := parseLog(LogRecords{All: []string{record, record}}, logDevices{"eth0": true})
			if log.Begins < 0 || log.Limited < 0 {
				t.Errorf("begins at %v, %d suppressed", log.Begins, log.Limited)
			}
			for name, n := range log.Counts {
				if c := record[0]; n != 2 && n%2 != 0 || c < '0' || c > '9' {
					t.Errorf("%d of %s are counted in %q", n, name, record)
				}
			}
		})
	})
}
