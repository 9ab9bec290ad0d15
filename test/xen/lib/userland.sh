# shellcheck shell=bash
# Xen itself and the programs in dom0's and the guest's initramfs, all from Debian 12.

userland_packages=(
	xen-hypervisor-4.17-amd64 xen-utils-4.17 xenstore-utils
	libxenmisc4.17 libxencall1 libxendevicemodel1 libxenevtchn1 libxenforeignmemory1
	libxengnttab1 libxenhypfs1 libxenstore4 libxentoolcore1 libxentoollog1
	libyajl2 libfdt1 libuuid1 libext2fs2 libcom-err2 liblzma5 libzstd1 zlib1g libbz2-1.0 liblzo2-2
	libncurses6 libtinfo6 libc6 libgcc-s1
	busybox-static dash bash ethtool iproute2 libmnl0 libbpf1 libelf1 libcap2 libbsd0 libmd0
	libselinux1 libpcre2-8-0 libtirpc3 libgssapi-krb5-2 libkrb5-3 libk5crypto3
	libkrb5support0 libkeyutils1 libxtables12
)
dom0_programs=(dash ip xl xenstored xenconsoled xen-init-dom0 libxl-save-helper xenstore)
guest_programs=(dash bash ip tc ss ethtool)

fetch_userland() { entry userland make_userland; }

make_userland() {
	local new=$1 deb xen
	known bookworm
	download "$new" bookworm "${userland_packages[@]}"
	mkdir "$new/root"
	for deb in "$new"/*.deb; do
		unpack "$deb" "$new/root" --exclude='./usr/share/*' .
	done
	rm -f "$new"/*.deb
	xen=("$new"/root/boot/xen-4.17-amd64.gz)
	gunzip -c "${xen[0]}" >"$new/xen.elf"
}

# install_programs ROOT PROGRAM... copies programs of the userland, with the libraries
# they load, into an initramfs tree.
install_programs() {
	local root=$1 from=$cache/userland/root program path lib
	shift
	mkdir -p "$root/bin" "$root/lib64" "$root/lib/x86_64-linux-gnu"
	cp -L "$from/lib64/ld-linux-x86-64.so.2" "$root/lib64/"
	for program; do
		path=$(find "$from" -type f -path "*bin/$program" -print -quit)
		[[ -n $path ]] || fail "no program $program among the userland packages"
		cp "$path" "$root/bin/"
		libraries "$from" "$path" | while read -r lib; do
			cp -Lu "$lib" "$root/lib/x86_64-linux-gnu/"
		done
	done
}

# libraries FROM PROGRAM prints the files in FROM of the shared libraries it loads, and of
# libgcc_s, which the C library opens by name when a thread is cancelled.
libraries() {
	local from=$1 path
	path=$from/lib/x86_64-linux-gnu:$from/usr/lib/x86_64-linux-gnu:$(dirname "$(find "$from" -name 'libxenlight.so*' -print -quit)")
	"$from/lib64/ld-linux-x86-64.so.2" --library-path "$path" --list "$2" |
		sed -n 's/.* => \(\/[^ ]*\) (.*/\1/p'
	echo "$from/lib/x86_64-linux-gnu/libgcc_s.so.1"
}

# install_busybox ROOT installs busybox under those of its names that are still free.
# The shell is dash: busybox's own prefers its ip over the real one.
install_busybox() {
	local root=$1 from=$cache/userland/root name
	cp "$from/bin/busybox" "$root/bin/busybox"
	ln -s dash "$root/bin/sh"
	for name in $("$from/bin/busybox" --list); do
		[[ -e $root/bin/$name ]] || ln -s busybox "$root/bin/$name"
	done
	ln -sfn bin "$root/sbin"
}
