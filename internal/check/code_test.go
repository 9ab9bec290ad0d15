package check

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
)

func fileThat(answer netfront.Answer, build string) Known[File] {
	return known(File{Path: "/lib/modules/r/xen-netfront.ko", BuildID: build, Answer: answer})
}

// What is said of the driver, by what could be read of it.
func TestLinearizeFinding(t *testing.T) {
	noRoot := missing[netfront.Answer](errNeedsRoot.Error())
	for _, test := range []struct {
		name    string
		code    Code
		status  event.Status
		message []string
	}{
		{"live and file agree", Code{known(linearizes), fileThat(linearizes, "ab"), "ab"}, event.OK,
			[]string{"Driver linearizes packets over 18 slots instead of dropping them.", "read_from running kernel", "file_is_loaded true"}},
		{"live, no file", Code{Live: known(linearizes), File: missing[File]("there is no /lib/modules/r")}, event.OK, []string{"file unknown"}},
		{"live drops, and the next start brings another", Code{known(drops), fileThat(linearizes, "cd"), "ab"}, event.Fail,
			[]string{"The file on disk differs: /lib/modules/r/xen-netfront.ko linearizes them", "file_is_loaded false"}},
		{"live linearizes, and the next start brings one that drops", Code{known(linearizes), fileThat(drops, "cd"), "ab"}, event.OK,
			[]string{"xen-netfront.ko drops them, after the next boot."}},
		{"the file that is loaded", Code{noRoot, fileThat(linearizes, "ab"), "ab"}, event.OK,
			[]string{"Read from /lib/modules/r/xen-netfront.ko, the build that is loaded", "that needs root", "read_from file"}},
		{"the file that is loaded drops", Code{noRoot, fileThat(drops, "ab"), "ab"}, event.Fail, []string{"the build that is loaded"}},
		{"a file whose build is not reported", Code{noRoot, fileThat(linearizes, ""), "ab"}, event.OK, []string{"which may not be the build that is loaded"}},
		{"a driver whose build is not reported", Code{noRoot, fileThat(linearizes, "ab"), ""}, event.OK, []string{"presumably what is loaded"}},
		{"another file than the one loaded", Code{noRoot, fileThat(linearizes, "ab"), "cd"}, event.Unknown,
			[]string{"is not the build that is loaded", "read_from unknown"}},
		{"a file that does not tell", Code{noRoot, fileThat(netfront.Answer{Evidence: "its symbols were stripped"}, "ab"), "ab"}, event.Unknown,
			[]string{"Running code: that needs root. File on disk: its symbols were stripped."}},
		{"nothing", Code{Live: noRoot, File: missing[File]("there is no /lib/modules/r")}, event.Unknown, []string{"there is no /lib/modules/r"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := (&Machine{Code: test.code, Interfaces: []Interface{guestNetfront("eth0", 1500)}}).linearize()
			text := everything(&f)
			if f.Status != test.status {
				t.Errorf("%s, want %s: %s", f.Status, test.status, text)
			}
			for _, part := range test.message {
				if !strings.Contains(text, part) {
					t.Errorf("no %q in %s", part, text)
				}
			}
		})
	}
}

func TestDriverOnDisk(t *testing.T) {
	const modules = "lib/modules/6.1.0-56-amd64/"
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string // the path, or part of the error
	}{
		{"as Debian has it", map[string]string{modules + "modules.dep": "kernel/net/a.ko:\nkernel/drivers/net/xen-netfront.ko: kernel/b.ko\n"}, modules + "kernel/drivers/net/xen-netfront.ko"},
		{"compressed", map[string]string{modules + "modules.dep": "kernel/drivers/net/xen-netfront.ko.xz:\n"}, modules + "kernel/drivers/net/xen-netfront.ko.xz"},
		{"an update", map[string]string{modules + "modules.dep": "updates/dkms/xen-netfront.ko.zst:\n"}, modules + "updates/dkms/xen-netfront.ko.zst"},
		{"an absolute path, of old", map[string]string{modules + "modules.dep": "/lib/modules/6.1.0-56-amd64/extra/xen_netfront.ko:\n"}, modules + "extra/xen_netfront.ko"},
		{"below usr", map[string]string{"usr/" + modules + "modules.dep": "kernel/drivers/net/xen-netfront.ko.gz:\n"}, "usr/" + modules + "kernel/drivers/net/xen-netfront.ko.gz"},
		{"without depmod", map[string]string{modules + "kernel/drivers/net/xen-netfront.ko.zst": "x"}, modules + "kernel/drivers/net/xen-netfront.ko.zst"},
		{"built in", map[string]string{modules + "modules.builtin": "kernel/drivers/net/xen-netfront.ko\n", "usr/lib/debug/boot/vmlinux-6.1.0-56-amd64": "x"}, "usr/lib/debug/boot/vmlinux-6.1.0-56-amd64"},
		{"built in, no vmlinux", map[string]string{modules + "modules.builtin": "kernel/drivers/net/xen-netfront.ko\n"}, "no vmlinux with symbols is on disk"},
		{"not built", map[string]string{modules + "modules.dep": "kernel/drivers/net/virtio_net.ko:\n"}, "there is no xen-netfront in /lib/modules/6.1.0-56-amd64"},
		{"another kernel's", map[string]string{"lib/modules/5.10/modules.dep": ""}, "there is no /lib/modules/6.1.0-56-amd64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &guest{files: fstest.MapFS{}}
			g.write(test.files)
			r := &reader{Source{Files: g, Release: "6.1.0-56-amd64"}}
			got, err := r.driverFile()
			if err != nil {
				got = err.Error()
			}
			if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestLoadedBuild(t *testing.T) {
	const module = "\x04\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00GNU\x00\xab\xcd\x00\x00"
	const whole = "\x04\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00GNU\x00\x12\x34\x00\x00"
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"a module", map[string]string{"sys/module/xen_netfront/initstate": "live", "sys/module/xen_netfront/notes/.note.gnu.build-id": module, "sys/kernel/notes": whole}, "abcd"},
		{"a module without notes", map[string]string{"sys/module/xen_netfront/initstate": "live", "sys/kernel/notes": whole}, ""},
		{"built in", map[string]string{"sys/module/xen_netfront/parameters/trusted": "Y", "sys/kernel/notes": whole}, "1234"},
		{"not loaded", map[string]string{"sys/kernel/notes": whole}, ""},
	} {
		g := &guest{files: fstest.MapFS{}}
		g.write(test.files)
		if got := (&reader{Source{Files: g}}).loadedBuild(); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestDriverFiles(t *testing.T) {
	g := &guest{files: fstest.MapFS{}, denied: []string{"secret.ko"}}
	g.write(map[string]string{"script": "#!/bin/sh", "secret.ko": "x", "directory/file": "x"})
	file, err := ReadFile(t.Context(), g, "script")
	if f := OfFile(file); err != nil || f.Status != event.Unknown || !strings.HasPrefix(f.Message, "Whether this driver linearizes is unknown: it is not an ELF file") {
		t.Errorf("a script: %+v, error %v", f, err)
	}
	for name, want := range map[string]error{"missing.ko": fs.ErrNotExist, "secret.ko": fs.ErrPermission} {
		if _, err := ReadFile(t.Context(), g, name); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", name, err, want)
		}
	}
	if _, err := ReadFile(t.Context(), g, "directory"); err == nil || !strings.Contains(err.Error(), "it is a directory") {
		t.Errorf("a directory: error %v", err)
	}
	for _, answer := range []netfront.Answer{linearizes, drops} {
		if f := OfFile(File{Path: "x.ko", Answer: answer}); (f.Status == event.Fail) != (answer.Value == netfront.Drops) {
			t.Errorf("%s: %s", answer.Value, f.Status)
		}
	}
}

func TestReadEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, newGuest().source(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// The kernel's types come from the file that is named, and code is read without any.
func TestTypesOfAFile(t *testing.T) {
	source, err := Running()
	if err != nil {
		t.Fatal(err)
	}
	source = source.WithTypes("/nowhere/vmlinux")
	if _, err := source.SharedInfo(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "kernel types of /nowhere/vmlinux") {
		t.Errorf("error %v", err)
	}
}
