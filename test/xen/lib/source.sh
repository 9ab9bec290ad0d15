# What building a driver needs: the kernel's headers, its base BTF, and the driver's
# source. Debian's kernel source is a build input; only xen-netfront.c is kept, and
# nothing of it belongs into git.

fetch_headers() { entry "headers/$1" make_headers "$1"; }
fetch_source() { entry "source/$1" make_source "$1"; }

# make_headers NEW KERNEL unpacks the headers that fit the kernel in the cache.
make_headers() {
	local new=$1 kernel=$2 release uname common deb series
	release=$(kernel_release "$kernel")
	uname=$(uname_of "$kernel")
	common=${uname%-amd64}-common
	series=$(sed -E 's/^([0-9]+\.[0-9]+).*/\1/' <<<"$uname")
	for deb in "linux-kbuild-$uname" "linux-kbuild-${uname%-amd64}" "linux-kbuild-$series"; do
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
	extract_vmlinux "$cache/kernel/$kernel/vmlinuz" "$new/vmlinux"
}

# extract_vmlinux VMLINUZ OUT writes the ELF file, with its BTF, that is inside a
# compressed kernel. The compressor's magic may also stand in the code before the data,
# and the decompressor complains about what follows it: what counts is an ELF file.
extract_vmlinux() {
	local magic unpack at
	while read -r magic unpack; do
		for at in $(LC_ALL=C grep -aobP "$magic" "$1" | LC_ALL=C tr -d '\0' | LC_ALL=C sed -n 's/^\([0-9]*\):.*/\1/p'); do
			tail -c "+$((at + 1))" "$1" | $unpack >"$2" 2>/dev/null || true
			[[ $(head -c 4 "$2" | tail -c 3) != ELF ]] || return 0
		done
	done <<-'EOF'
		\xFD7zXZ\x00 xz -dc --single-stream
		\x28\xB5\x2F\xFD zstd -dc
		\x1F\x8B\x08 gzip -dc
	EOF
	fail "no kernel found inside $1"
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
