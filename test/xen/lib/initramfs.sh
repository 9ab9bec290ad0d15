# shellcheck shell=bash
# The initramfs images. The parts that do not change from run to run are cached
# as uncompressed cpio archives; a run's own part is appended to them, which the
# kernel takes as one.

# pack TREE prints the tree as a cpio archive owned by root, with fixed dates.
pack() {
	(cd "$1" && find . -mindepth 1 -exec touch -h -d @0 {} + &&
		find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0)
}

# dom0_image and guest_image KERNEL [MODULE_FILE] print the path of the cached archive.
dom0_image() {
	local key
	fetch_userland
	fetch_kernel "$dom0_kernel"
	key=$({
		cat "$lab"/lib/{userland,modules,initramfs}.sh "$lab"/init/{dom0,vif-lab,block,toolstack} "$programs"/{relay,peer}
		uname_of "$dom0_kernel"
	} | digest)
	entry "image/dom0-$key" make_dom0_image
	touch "$cache/image/dom0-$key"
	echo "$cache/image/dom0-$key/cpio"
}

make_dom0_image() {
	local new=$1 root=$1/root
	skeleton "$root"
	install_programs "$root" "${dom0_programs[@]}"
	install_busybox "$root"
	install_modules "$root" "$dom0_kernel" "${dom0_modules[@]}"
	cp "$programs"/{relay,peer} "$root/bin/"
	install -D "$lab/init/dom0" "$root/init"
	install -D "$lab/init/toolstack" "$root/bin/toolstack"
	install -D -t "$root/etc/xen/scripts" "$lab"/init/{vif-lab,block}
	: >"$root/etc/xen/xl.conf"
	# xl looks for its helper where Debian has it.
	install -D "$root/bin/libxl-save-helper" "$root/lib/xen-4.17/bin/libxl-save-helper"
	pack "$root" >"$new/cpio"
	rm -r "$root"
}

guest_image() {
	local kernel=$1 module=${2:-} key
	fetch_userland
	fetch_kernel "$kernel"
	key=$({
		cat "$lab"/lib/{userland,modules,initramfs}.sh "$lab"/init/{guest,netfront} "$programs/relay"
		uname_of "$kernel"
		[[ -z $module ]] || cat "$module"
	} | digest)
	entry "image/guest-$key" make_guest_image "$kernel" "$module"
	touch "$cache/image/guest-$key"
	echo "$cache/image/guest-$key/cpio"
}

make_guest_image() {
	local new=$1 root=$1/root kernel=$2 module=$3 stock
	skeleton "$root"
	install_programs "$root" "${guest_programs[@]}"
	install_busybox "$root"
	install_modules "$root" "$kernel" "${guest_modules[@]}"
	if [[ -n $module ]]; then
		stock=$(find "$root/lib/modules" -name xen-netfront.ko)
		cp "$module" "$stock"
	fi
	cp "$programs/relay" "$root/bin/"
	install -D "$lab/init/guest" "$root/init"
	install -D "$lab/init/netfront" "$root/bin/netfront"
	pack "$root" >"$new/cpio"
	rm -r "$root"
}

skeleton() {
	mkdir -p "$1"/{dev,proc,sys,etc,root,run,tmp,var,lab}
	ln -s . "$1/usr"
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$1/etc/passwd"
	printf 'root:x:0:\n' >"$1/etc/group"
}
