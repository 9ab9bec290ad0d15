package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/memory"
)

func uevent(lines ...string) []byte { return []byte(strings.Join(lines, "\x00") + "\x00") }

func TestModuleEvents(t *testing.T) {
	tests := []struct {
		name    string
		message []byte
		want    ModuleEvent
	}{
		{"loaded", uevent("add@/module/xen_netfront", "ACTION=add", "DEVPATH=/module/xen_netfront", "SUBSYSTEM=module", "SEQNUM=1234"), ModuleAdded},
		{"unloaded", uevent("remove@/module/xen_netfront", "ACTION=remove", "DEVPATH=/module/xen_netfront", "SUBSYSTEM=module", "SEQNUM=1235"), ModuleRemoved},
		{"subsystem at the end", uevent("remove@/module/xen_netfront", "SUBSYSTEM=module"), ModuleRemoved},
		{"another module", uevent("add@/module/xen_netfront2", "SUBSYSTEM=module"), 0},
		{"one whose name ends alike", uevent("add@/module/old_xen_netfront", "SUBSYSTEM=module"), 0},
		{"another subsystem", uevent("add@/module/xen_netfront", "SUBSYSTEM=net"), 0},
		{"subsystem with more behind it", uevent("add@/module/xen_netfront", "SUBSYSTEM=modules"), 0},
		{"a value that looks like it", uevent("add@/module/xen_netfront", "X=1SUBSYSTEM=module"), 0},
		{"an interface", uevent("add@/devices/vif-0/net/eth0", "SUBSYSTEM=net"), 0},
		{"another action", uevent("change@/module/xen_netfront", "SUBSYSTEM=module"), 0},
		{"no path", uevent("add", "SUBSYSTEM=module"), 0},
		{"cut off", []byte("add@/module/xen_netfront"), 0},
		{"of udev", append([]byte("libudev\x00\xfe\xed\xca\xfe"), uevent("add@/module/xen_netfront", "SUBSYSTEM=module")...), 0},
		{"empty", nil, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := parseModuleEvent(test.message, "xen_netfront"); got != test.want {
				t.Errorf("event %d, want %d", got, test.want)
			}
		})
	}
}

// Nothing but the exact path of the module makes an event.
func FuzzModuleEvent(f *testing.F) {
	f.Add(uevent("add@/module/xen_netfront", "SUBSYSTEM=module"))
	f.Add(uevent("remove@/module/xen_netfront", "ACTION=remove", "SUBSYSTEM=module"))
	f.Add([]byte("\x00@\x00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		var event ModuleEvent
		memory.Within(t, 64<<10+8*uint64(len(message)), func() { event = parseModuleEvent(message, "xen_netfront") })
		var want string
		switch event {
		case 0:
			return
		case ModuleAdded:
			want = "add@/module/xen_netfront\x00"
		case ModuleRemoved:
			want = "remove@/module/xen_netfront\x00"
		default:
			t.Fatalf("event %d", event)
		}
		if !strings.HasPrefix(string(message), want) {
			t.Errorf("%q is taken for %q", message, want)
		}
	})
}

func TestLoadedModule(t *testing.T) {
	sysfs := t.TempDir()
	directory := filepath.Join(sysfs, "module", "driver")
	load := func(files ...string) Module {
		t.Helper()
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if err := os.WriteFile(filepath.Join(directory, file), []byte("live\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		module, there := loadedModule(sysfs, "driver")
		if there != (len(files) > 0) {
			t.Fatalf("with %v in its directory: there is %v", files, there)
		}
		return module
	}
	if _, there := loadedModule(sysfs, "driver"); there {
		t.Error("a module without a directory is there")
	}
	load() // built in, with parameters
	first := load("initstate")
	if again, there := loadedModule(sysfs, "driver"); !there || again != first || first == 0 {
		t.Errorf("the same loading is %d and then %d", first, again)
	}
	// Held, so that the file system cannot give its number to the next one.
	held, err := os.Open(directory)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := os.RemoveAll(directory); err != nil {
		t.Fatal(err)
	}
	if second := load("initstate"); second == first {
		t.Errorf("two loadings have the number %d", first)
	}
}
