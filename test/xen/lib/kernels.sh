# shellcheck shell=bash
# The kernels a guest can boot, and the Debian release each one comes from.

# Debian's own, which everything runs on unless told otherwise.
kernel_names=(5.10 6.1 6.12 newest)
# Debian's other flavours: for clouds, and PREEMPT_RT.
flavour_names=(6.12-cloud 6.12-rt)
# built_names prints those that are built here, from kernels/*.config (lib/build.sh).
built_names() { (cd "$lab/kernels" && printf '6.12-%s\n' *.config | sed 's/\.config$//' | grep -vx 6.12-guest | paste -sd ' '); }
# is_built KERNEL tells whether the kernel is one of them.
is_built() { [[ $1 == 6.12-* && -e $lab/kernels/${1#6.12-}.config ]]; }
# Dom0 stays on one kernel, whatever the guest runs.
dom0_kernel=6.1

kernel_release() {
	case $1 in
	5.10) echo bullseye ;;
	6.1 | 6.12 | 6.12-cloud | 6.12-rt) echo bookworm ;;
	newest) echo sid ;;
	*)
		is_built "$1" || fail "no kernel $1: choose one of ${kernel_names[*]} ${flavour_names[*]} $(built_names)"
		echo bookworm
		;;
	esac
}

# kernel_pattern KERNEL prints what its image package is called.
kernel_pattern() {
	case $1 in
	5.10) echo 'linux-image-5\.10\.0-[0-9]+-amd64' ;;
	6.1) echo 'linux-image-6\.1\.0-[0-9]+-amd64' ;;
	6.12) echo 'linux-image-6\.12\.[0-9]+\+deb12(\.[0-9]+)?-amd64' ;;
	6.12-*) echo "linux-image-6\\.12\\.[0-9]+\\+deb12(\\.[0-9]+)?-${1#6.12-}-amd64" ;;
	newest) echo 'linux-image-[0-9.]+\+deb[0-9]+(\.[0-9]+)?-amd64' ;;
	esac
}

# uname_of KERNEL prints the guest's `uname -r`; the kernel must have been fetched.
uname_of() { cat "$cache/kernel/$1/uname"; }

# fetch_kernel KERNEL makes sure of the kernel's image and the modules the lab packs.
fetch_kernel() {
	kernel_release "$1" >/dev/null
	if is_built "$1"; then
		fetch_built_kernel "$1"
	else
		entry "kernel/$1" make_kernel "$1"
	fi
}

# choose_kernel KERNEL RELEASE prints the newest uname that has both an image and headers.
choose_kernel() {
	local uname names
	names=$(in_release "$2" apt-cache pkgnames)
	grep -Ex "$(kernel_pattern "$1")" <<<"$names" | sed s/^linux-image-// | sort -Vr |
		while read -r uname; do
			grep -qx "linux-headers-$uname" <<<"$names" || continue
			echo "$uname"
			break
		done
}

make_kernel() {
	local new=$1 kernel=$2 release uname deb packages=()
	release=$(kernel_release "$kernel")
	known "$release"
	uname=$(choose_kernel "$kernel" "$release")
	[[ -n $uname ]] || fail "Debian $release has no kernel $kernel with headers"
	packages=("linux-image-$uname")
	# Debian split the image's files off after 7.0.
	for deb in "linux-binary-$uname" "linux-modules-$uname" "linux-base-$uname"; do
		has_package "$release" "$deb" && packages+=("$deb")
	done
	download "$new" "$release" "${packages[@]}"
	mkdir "$new/root"
	for deb in "$new"/*.deb; do
		unpack "$deb" "$new/root" --exclude='./usr/share/*' \
			--exclude='*/drivers/net/wireless' --exclude='*/drivers/net/ethernet' \
			--exclude='*/drivers/gpu' --exclude='*/sound' --exclude='*/drivers/media' .
	done
	rm -f "$new"/*.deb
	gather_kernel "$new" "$uname"
	version_of "$release" "linux-image-$uname" >"$new/version"
	say "kernel $kernel is $uname ($(cat "$new/version"))"
}

# gather_kernel DIR UNAME keeps what the lab uses of an unpacked image, under fixed names.
gather_kernel() {
	local new=$1 uname=$2 tree
	for tree in "$new/root/lib/modules/$uname" "$new/root/usr/lib/modules/$uname"; do
		[[ -d $tree ]] && mv "$tree" "$new/modules"
	done
	if [[ -e $new/root/boot/vmlinuz-$uname ]]; then
		mv "$new/root/boot/vmlinuz-$uname" "$new/vmlinuz"
	else
		mv "$new/modules/vmlinuz" "$new/vmlinuz"
	fi
	find "$new/root" "$new/modules" \( -name "config-$uname" -o -name config \) -exec mv {} "$new/config" \;
	extract_vmlinux "$new/vmlinuz" "$new/vmlinux"
	rm -rf "$new/root" "$new/vmlinuz"
	echo "$uname" >"$new/uname"
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

