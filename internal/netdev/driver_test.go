package netdev

import (
	"testing"
	"testing/fstest"
)

func TestXenDriver(t *testing.T) {
	guest := fstest.MapFS{"bus/xen/devices/vif-0": {}, "bus/xen/devices/vif-12": {}}
	dom0 := fstest.MapFS{"bus/xen-backend/devices/vif-3-0": {}, "bus/xen/devices/vbd-5": {}}
	none := fstest.MapFS{}
	for _, test := range []struct {
		name   string
		given  driver
		sys    fstest.MapFS
		expect string
	}{
		{"frontend", driver{"vif", "vif-0"}, guest, DriverNetfront},
		{"frontend with a large handle", driver{"vif", "vif-12"}, guest, DriverNetfront},
		{"frontend without sysfs", driver{"vif", "vif-0"}, none, DriverNetfront},
		{"frontend that the bus does not know", driver{"vif", "vif-1"}, guest, "vif"},
		{"backend", driver{"vif", "vif-3-0"}, dom0, DriverNetback},
		{"backend that the bus does not know", driver{"vif", "vif-4-0"}, dom0, "vif"},
		{"other driver", driver{"ena", "0000:00:05.0"}, guest, "ena"},
		{"other driver with such a bus name", driver{"e1000", "vif-0"}, guest, "e1000"},
		{"vif elsewhere", driver{"vif", "0000:00:05.0"}, guest, "vif"},
		{"vif without a number", driver{"vif", "vif-"}, none, "vif"},
		{"vif with a path", driver{"vif", "vif-../../x"}, guest, "vif"},
		{"half a backend", driver{"vif", "vif-3-"}, dom0, "vif"},
		{"no driver", driver{}, guest, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := xenDriver(test.given, test.sys); got != test.expect {
				t.Errorf("%q, want %q", got, test.expect)
			}
		})
	}
}
