# shellcheck shell=bash
# What dom0 emulates a PC with for an HVM guest: Debian's QEMU for Xen, and the
# firmware that it and Xen load into the guest.

device_model_packages=(qemu-system-xen qemu-system-data seabios ipxe-qemu libgcc-s1)

fetch_device_model() { entry device-model make_device_model; }

make_device_model() {
	local new=$1 deb
	known bookworm
	say "fetching Xen's device model from Debian bookworm"
	mkdir -p "$new/debs/partial" "$new/root"
	# The private state knows no installed package, so apt resolves them all.
	in_release bookworm apt-get install --download-only --yes --no-install-recommends \
		-o Dir::Cache::Archives="$new/debs" "${device_model_packages[@]}" >"$new/apt.log" 2>&1 || {
		cat "$new/apt.log" >&2
		fail "fetching Xen's device model from Debian bookworm failed"
	}
	for deb in "$new"/debs/*.deb; do
		unpack "$deb" "$new/root" --keep-directory-symlink --exclude='./usr/share/doc/*' --exclude='./usr/share/iso-codes/*' .
	done
	rm -r "$new/debs"
}

# device_model_image prints the path of the cached archive that dom0's gets in addition.
device_model_image() {
	local key
	fetch_userland
	fetch_device_model
	key=$(cat "$lab"/lib/devicemodel.sh "$cache/device-model/apt.log" | digest)
	entry "image/device-model-$key" make_device_model_image
	touch "$cache/image/device-model-$key"
	echo "$cache/image/device-model-$key/cpio"
}

# /usr is / in dom0's initramfs.
make_device_model_image() {
	local new=$1 root=$1/root from=$cache/device-model/root qemu lib
	qemu=usr/libexec/xen-qemu-system-i386
	mkdir -p "$root"/{libexec,share/qemu/keymaps,share/seabios,lib/ipxe/qemu,lib/xen-4.17/boot,lib/x86_64-linux-gnu}
	cp "$from/$qemu" "$root/libexec/"
	libraries "$from" "$from/$qemu" | while read -r lib; do
		cp -Lu "$lib" "$root/lib/x86_64-linux-gnu/"
	done
	cp "$from"/usr/share/qemu/linuxboot*.bin "$root/share/qemu/"
	cp "$from/usr/share/qemu/keymaps/en-us" "$root/share/qemu/keymaps/"
	cp "$from/usr/share/seabios/bios-256k.bin" "$root/share/seabios/"
	cp "$from/usr/lib/ipxe/qemu/efi-rtl8139.rom" "$root/lib/ipxe/qemu/"
	cp "$cache/userland/root/usr/lib/xen-4.17/boot/hvmloader" "$root/lib/xen-4.17/boot/"
	pack "$root" >"$new/cpio"
	rm -r "$root"
}

# bzimage KERNEL prints the path of the kernel as Debian packs it: QEMU boots no other.
bzimage() {
	is_built "$1" && fail "kernel $1 is built without a bzImage: an HVM guest needs one of Debian's"
	fetch_kernel "$1"
	entry "bzimage/$(uname_of "$1")" make_bzimage "$1"
	echo "$cache/bzimage/$(uname_of "$1")/vmlinuz"
}

make_bzimage() {
	local new=$1 release uname deb packages=()
	release=$(kernel_release "$2")
	uname=$(uname_of "$2")
	for deb in "linux-image-$uname" "linux-binary-$uname"; do
		has_package "$release" "$deb" && packages+=("$deb")
	done
	download "$new" "$release" "${packages[@]}"
	for deb in "$new"/*.deb; do
		unpack "$deb" "$new" --transform 's,.*/,,' "*/vmlinuz*" 2>/dev/null || true
	done
	rm -f "$new"/*.deb
	[[ -e $new/vmlinuz ]] || mv "$new/vmlinuz-$uname" "$new/vmlinuz"
}
