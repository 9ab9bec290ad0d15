package owner

import (
	"strings"
	"testing"

	"xentrace/test/memory"
)

const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParseCgroup(t *testing.T) {
	for _, test := range []struct {
		name, path string
		want       Cgroup
	}{
		{"root", "/", Cgroup{}},
		{"empty", "", Cgroup{}},
		{"service", "/system.slice/nginx.service", Cgroup{Unit: "nginx.service"}},
		{"cgroup below a service", "/system.slice/nginx.service/workers/1", Cgroup{Unit: "nginx.service"}},
		{"instance", "/system.slice/system-openvpn.slice/openvpn@office.service", Cgroup{Unit: "openvpn@office.service"}},
		{"login session", "/user.slice/user-1000.slice/session-3.scope", Cgroup{Unit: "session-3.scope"}},
		{"unit of a user's systemd", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-12.scope", Cgroup{Unit: "user@1000.service"}},
		{"user's systemd itself", "/user.slice/user-1000.slice/user@1000.service/init.scope", Cgroup{Unit: "user@1000.service"}},
		{"slice only", "/machine.slice", Cgroup{Unit: "machine.slice"}},
		{"innermost slice", "/system.slice/system-getty.slice/x", Cgroup{Unit: "system-getty.slice"}},
		{"service in preference to a slice below", "/system.slice/a.service/b.slice", Cgroup{Unit: "a.service"}},
		{"escaped name", `/system.slice/a\x2db.service`, Cgroup{Unit: `a\x2db.service`}},
		{"no unit", "/foo/bar", Cgroup{}},
		{"suffix without a name", "/.service/.scope/.slice", Cgroup{}},
		{"gone", "/system.slice/nginx.service (deleted)", Cgroup{Unit: "nginx.service"}},
		{"outside of the caller's cgroup namespace", "/../../system.slice/nginx.service", Cgroup{Unit: "nginx.service"}},
		{"Docker with systemd", "/system.slice/docker-" + id + ".scope", Cgroup{Unit: "docker-" + id + ".scope", Container: id}},
		{"Docker without", "/docker/" + id, Cgroup{Container: id}},
		{"systemd in Docker", "/system.slice/docker-" + id + ".scope/system.slice/nginx.service", Cgroup{Unit: "docker-" + id + ".scope", Container: id}},
		{"Docker in Docker", "/docker/" + strings.Repeat("a", 64) + "/docker/" + id, Cgroup{Container: strings.Repeat("a", 64)}},
		{"Kubernetes with containerd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_34.slice/cri-containerd-" + id + ".scope",
			Cgroup{Unit: "cri-containerd-" + id + ".scope", Container: id}},
		{"Kubernetes with CRI-O", "/kubepods.slice/kubepods-pod12.slice/crio-" + id + ".scope/container", Cgroup{Unit: "crio-" + id + ".scope", Container: id}},
		{"Kubernetes without systemd", "/kubepods/burstable/pod1234-5678/" + id, Cgroup{Container: id}},
		{"pod without a container", "/kubepods.slice/kubepods-pod12.slice", Cgroup{Unit: "kubepods-pod12.slice"}},
		{"Podman of a user", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope/container",
			Cgroup{Unit: "user@1000.service", Container: id}},
		{"Podman without systemd", "/libpod_parent/libpod-" + id, Cgroup{Container: id}},
		{"what looks after a container", "/machine.slice/libpod-conmon-" + id + ".scope", Cgroup{Unit: "libpod-conmon-" + id + ".scope"}},
		{"the same with CRI-O", "/kubepods.slice/crio-conmon-" + id + ".scope", Cgroup{Unit: "crio-conmon-" + id + ".scope"}},
		{"LXC", "/lxc.payload.web1/system.slice/nginx.service", Cgroup{Container: "web1"}},
		{"LXC with a directory", "/lxc.payload/web1", Cgroup{Container: "web1"}},
		{"older LXC", "/lxc/web1/init.scope", Cgroup{Container: "web1"}},
		{"LXC's monitor", "/lxc.monitor.web1", Cgroup{}},
		{"nspawn", `/machine.slice/machine-web\x2d1.scope/payload/system.slice/a.service`, Cgroup{Unit: `machine-web\x2d1.scope`, Container: "web-1"}},
		{"nspawn as a service", "/machine.slice/systemd-nspawn@web.service/payload", Cgroup{Unit: "systemd-nspawn@web.service", Container: "web"}},
		{"virtual machine", `/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator`, Cgroup{Unit: `machine-qemu\x2d1\x2dvm.scope`}},
		{"a service that a service made", "/system.slice/web.service/sshd.service", Cgroup{Unit: "web.service"}},
		{"a service that a user made in a session", "/user.slice/user-1000.slice/session-3.scope/sshd.service", Cgroup{Unit: "session-3.scope"}},
		{"a container that a container made", "/system.slice/docker-" + strings.Repeat("a", 64) + ".scope/docker-" + id + ".scope",
			Cgroup{Unit: "docker-" + strings.Repeat("a", 64) + ".scope", Container: strings.Repeat("a", 64)}},
		{"a slice that was made below no slice", "/foo/system.slice", Cgroup{}},
		{"a service below no slice", "/foo/a.service/b.scope", Cgroup{Unit: "a.service"}},
		{"63 digits", "/docker/" + id[1:], Cgroup{}},
		{"upper case", "/docker/" + strings.ToUpper(id), Cgroup{}},
		{"bad escape", `/machine.slice/machine-a\xzz.scope`, Cgroup{Unit: `machine-a\xzz.scope`, Container: `a\xzz`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ParseCgroup(test.path); got != test.want {
				t.Errorf("%s: %+v, want %+v", test.path, got, test.want)
			}
		})
	}
}

func TestParseMemberships(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       Cgroup
	}{
		{"v2", "0::/system.slice/a.service\n", Cgroup{Unit: "a.service"}},
		{"hybrid", "2:cpu:/system.slice/other.service\n1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n", Cgroup{Unit: "a.service"}},
		{"v1", "3:memory:/system.slice/other.service\n1:name=systemd:/system.slice/a.service\n", Cgroup{Unit: "a.service"}},
		{"v1 with an empty v2", "1:name=systemd:/system.slice/a.service\n0::/\n", Cgroup{Unit: "a.service"}},
		{"v1, Docker without systemd", "3:memory:/docker/" + id + "\n1:name=systemd:/\n", Cgroup{Container: id}},
		{"v1, Docker with systemd", "1:name=systemd:/system.slice/docker-" + id + ".scope\n", Cgroup{Unit: "docker-" + id + ".scope", Container: id}},
		{"colons in the path", "0::/system.slice/a:b.service\n", Cgroup{Unit: "a:b.service"}},
		{"no line", "", Cgroup{}},
		{"nonsense", "x\n::\n1:2\n", Cgroup{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := parseMemberships(test.text); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestCgroupRoot(t *testing.T) {
	long := "40 1 0:40 / /mnt/long rw - overlay overlay lowerdir=" + strings.Repeat("/x:", 30_000) + "\n"
	const v2 = "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
	for name, mountinfo := range map[string]string{"alone": v2, "behind a long line": long + v2} {
		if root, err := parseCgroupRoot(strings.NewReader(mountinfo)); root != "/sys/fs/cgroup" || err != nil {
			t.Errorf("%s: %q, error %v", name, root, err)
		}
	}
	if root, err := parseCgroupRoot(strings.NewReader(long)); err == nil {
		t.Errorf("root %q, want none", root)
	}
}

func FuzzCgroupRoot(f *testing.F) {
	f.Add("35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n")
	f.Add(" - cgroup2 ")
	f.Add("1 2 3 4 - 5 - cgroup2 \n")
	f.Add(strings.Repeat("x", 70_000) + " - cgroup2 ")
	f.Fuzz(func(t *testing.T, mountinfo string) {
		memory.Within(t, 1<<20+64*uint64(len(mountinfo)), func() {
			if root, err := parseCgroupRoot(strings.NewReader(mountinfo)); err == nil && !strings.Contains(mountinfo, root) {
				t.Errorf("root %q", root)
			}
		})
	})
}

// Whatever the path, a unit is one of its parts, and a container says something. What is
// appended to a path that names a container or a service changes nothing.
func FuzzParseCgroup(f *testing.F) {
	f.Add("/system.slice/docker-" + id + ".scope/x")
	f.Add(`/machine.slice/machine-a\x2d\x00.scope`)
	f.Add("/lxc.payload./lxc/\\x")
	f.Add(strings.Repeat("/", 4096))
	f.Add("/" + strings.Repeat("a.slice/", 500) + "b.service")
	f.Fuzz(func(t *testing.T, path string) {
		memory.Within(t, 1<<20+64*uint64(len(path)), func() {
			cgroup := ParseCgroup(path)
			if cgroup.Unit != "" && !strings.Contains("/"+strings.TrimSuffix(path, " (deleted)")+"/", "/"+cgroup.Unit+"/") {
				t.Errorf("unit %q is no part of %q", cgroup.Unit, path)
			}
			if len(cgroup.Container) > len(path) {
				t.Errorf("container %q is longer than %q", cgroup.Container, path)
			}
			below := ParseCgroup(path + "/x/forged.service")
			unit := cgroup.Container != "" || isUnit(cgroup.Unit, ".service") || isUnit(cgroup.Unit, ".scope")
			if !strings.HasSuffix(path, " (deleted)") && (unit && below.Unit != cgroup.Unit || cgroup.Container != "" && below != cgroup) {
				t.Errorf("%+v, with a service below %+v", cgroup, below)
			}
			parseMemberships(path)
		})
	})
}
