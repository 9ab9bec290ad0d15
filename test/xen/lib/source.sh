# shellcheck shell=bash
# What building a driver needs: the kernel's headers and the driver's source.
# Debian's kernel source is a build input: only xen-netfront.c is kept, and nothing of
# it belongs into git.

fetch_headers() { entry "headers/$1" make_headers "$1"; }
fetch_source() { entry "source/$1" make_source "$1"; }

# make_headers NEW KERNEL unpacks the headers that fit the kernel in the cache.
make_headers() {
	local new=$1 kernel=$2 release uname version common deb series
	release=$(kernel_release "$kernel")
	uname=$(uname_of "$kernel")
	version=$(sed -E 's/(-cloud|-rt)?-amd64$//' <<<"$uname")
	common=$version-common
	[[ $uname != *-rt-amd64 ]] || common=$common-rt
	series=$(sed -E 's/^([0-9]+\.[0-9]+).*/\1/' <<<"$uname")
	for deb in "linux-kbuild-$uname" "linux-kbuild-$version" "linux-kbuild-$series"; do
		has_package "$release" "$deb" && break
	done
	download "$new" "$release" "linux-headers-$uname" "linux-headers-$common" "$deb"
	mkdir "$new/root"
	for deb in "$new"/*.deb; do
		unpack "$deb" "$new/root" .
	done
	rm -f "$new"/*.deb
	ln -s "root/usr/src/linux-headers-$uname" "$new/build"
	relocate_headers "$new" "$uname"
}

# relocate_headers DIR UNAME makes the headers work where they were unpacked: Debian's
# name each other by absolute paths.
relocate_headers() {
	local new=$1 uname=$2 final=$cache/headers/$kernel link target
	sed -i "s,/usr/src/linux-headers,$final/root&,g" "$new/build/Makefile"
	find "$new/root/usr/src" -type l | while read -r link; do
		target=$(readlink "$link")
		[[ $target != /* ]] || ln -sfn "$final/root$target" "$link"
	done
}

# make_source NEW KERNEL takes the frontend's source out of Debian's source package.
make_source() {
	local new=$1 kernel=$2 release series name deb
	release=$(kernel_release "$kernel")
	series=$(sed -E 's/^([0-9]+\.[0-9]+).*/\1/' <"$cache/kernel/$kernel/uname")
	name=linux-source-$series
	download "$new" "$release" "$name"
	deb=("$new"/*.deb)
	dpkg-deb --fsys-tarfile "${deb[0]}" | tar -x -O --wildcards '*/linux-source-*.tar.xz' |
		xz -dc | tar -x -O --wildcards '*/drivers/net/xen-netfront.c' >"$new/xen-netfront.c"
	rm "${deb[0]}"
	[[ -s $new/xen-netfront.c ]] || fail "$name has no drivers/net/xen-netfront.c"
}

# fetch_build_inputs KERNEL makes sure of everything a driver is built from.
fetch_build_inputs() {
	! is_built "$1" || fail "the driver is part of the kernel $1: it has no variants"
	fetch_kernel "$1"
	fetch_source "$1"
	fetch_headers "$1"
	toolchain_for "$1" >/dev/null
}

# forget KERNEL drops what was fetched for a kernel, and its release's package lists.
forget() {
	local release
	release=$(kernel_release "$1")
	refresh "$release"
	rm -rf "$cache"/{kernel,headers,source,tree}/"$1" "$cache/toolchain/$release"
}
