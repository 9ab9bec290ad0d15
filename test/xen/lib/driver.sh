# shellcheck shell=bash
# The frontend driver as Debian does not ship it: variants of xen-netfront, each a
# small edit of ours (variants/*.sed) to the kernel's own source, built out of tree.
#
# A variant's comment may hold a line `# netback: NAME=VALUE...`: parameters that
# dom0's xen-netback module needs for it.

# driver_module KERNEL DRIVER prints the module file to load, nothing for the stock one.
driver_module() {
	local kernel=$1 driver=$2 edit=$lab/variants/$2.sed key
	[[ $driver != stock ]] || return 0
	[[ -e $edit ]] || fail "no driver $driver: choose stock or one of $(variants)"
	need make gcc pahole objcopy
	fetch_build_inputs "$kernel"
	key=$({
		uname_of "$kernel"
		cat "$edit" "$lab/lib/driver.sh" "$cache/source/$kernel/xen-netfront.c"
	} | digest)
	entry "driver/$driver-$key" make_driver "$kernel" "$driver"
	echo "$cache/driver/$driver-$key/xen-netfront.ko"
}

variants() { (cd "$lab/variants" && printf '%s\n' *.sed | sed 's/\.sed$//' | paste -sd ' '); }

# driver_netback_parameters DRIVER prints the parameters its backend needs.
driver_netback_parameters() {
	[[ $1 != stock ]] || return 0
	sed -n 's/^# netback: //p' "$lab/variants/$1.sed"
}

# netback_parameters prints those for the settings in force; of two values the later counts.
netback_parameters() { echo "$(driver_netback_parameters "$driver")${netback:+ $netback}"; }

# make_driver NEW KERNEL DRIVER builds the variant.
make_driver() {
	local new=$1 kernel=$2 driver=$3 headers=$cache/headers/$2 root
	root=$(toolchain_for "$kernel")
	say "building the driver $driver for kernel $(uname_of "$kernel")"
	sed -f "$lab/variants/$driver.sed" "$cache/source/$kernel/xen-netfront.c" >"$new/xen-netfront.c"
	! cmp -s "$new/xen-netfront.c" "$cache/source/$kernel/xen-netfront.c" ||
		fail "variants/$driver.sed changes nothing in the driver of $kernel"
	echo 'obj-m := xen-netfront.o' >"$new/Makefile"
	with_toolchain "$root" "$new" make -C "$headers/build" M="$new" CC=gcc HOSTCC=gcc modules >"$new/build.log" 2>&1 || {
		cat "$new/build.log" >&2
		fail "the driver $driver does not build for kernel $kernel"
	}
	add_btf "$new/xen-netfront.ko" "$kernel"
	strip --strip-debug "$new/xen-netfront.ko"
	find "$new" -mindepth 1 ! -name xen-netfront.ko ! -name build.log -delete
}

# add_btf MODULE KERNEL gives the module BTF, without which fentry cannot attach, where
# the kernel has BTF for modules (5.11 and later). Kbuild does that itself with Debian's
# later headers, which hold the base BTF.
add_btf() {
	grep -q '^CONFIG_DEBUG_INFO_BTF_MODULES=y' "$cache/headers/$2/build/.config" || return 0
	! readelf -SW "$1" | grep -q ' \.BTF ' || return 0
	LLVM_OBJCOPY=objcopy pahole -J --btf_base "$cache/kernel/$2/vmlinux" "$1"
}
