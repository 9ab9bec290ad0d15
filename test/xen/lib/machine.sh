# shellcheck shell=bash
# Saved machines. Booting takes most of a run's time, so each combination of kernel,
# driver and settings is booted once, up to where the guest would start a program, and
# saved there: the memory as a file, which later runs map privately, and the devices'
# state beside it. A run continues from that, with its program on the disk.

# boot_ramdisk OUT writes the dom0 ramdisk for the settings in force: the cached part,
# and the guest with its kernel and ramdisk.
boot_ramdisk() {
	local out=$1 dom0 tree=$dir/dom0
	dom0=$(dom0_image)
	boot_files "$tree/guest"
	lab_guest_config >"$tree/guest/guest.cfg"
	[[ ${#tunnel[@]} -eq 0 ]] || tunnel_files "$tree"
	{
		cat "$dom0"
		[[ $type != hvm ]] || cat "$(device_model_image)"
		pack "$tree"
	} >"$out"
	rm -r "$tree"
}

# lab_guest_config prints the guest's configuration for the lab's own dom0.
lab_guest_config() { guest_config guest /guest vif-lab phy:/dev/sda,xvda,w; }

# boot_files OUT makes a directory of what the guest boots from with the settings in
# force: kernel, ramdisk, and the settings.
boot_files() {
	local out=$1 guest settings=$dir/settings
	guest=$(guest_image "$kernel" "$module")
	mkdir -p "$out" "$settings/etc/lab"
	run_settings | tee "$settings/etc/lab/conf" >"$out/conf"
	{
		cat "$guest"
		pack "$settings"
	} | packed_ramdisk >"$out/initrd"
	cp "$(kernel_file)" "$out/vmlinux"
	rm -r "$settings"
}

# packed_ramdisk compresses what an HVM guest boots from: its firmware reads it byte by byte,
# each of which dom0's device model emulates.
packed_ramdisk() {
	if [[ $type = hvm ]]; then
		gzip -6
	else
		cat
	fi
}

# kernel_file prints the path of what the guest boots.
kernel_file() {
	if [[ $type = hvm ]]; then
		bzimage "$kernel"
	else
		echo "$cache/kernel/$kernel/vmlinux"
	fi
}

# machine_entry prints the name of the cache entry for the settings in force.
machine_entry() {
	local key
	key=$({
		dom0_image
		[[ $type != hvm ]] || device_model_image
		guest_image "$kernel" "$module"
		run_settings
		lab_guest_config
		boot_command DIR DISK
		qemu-system-x86_64 --version
	} | digest)
	echo "machine/$kernel-$driver-$key"
}

# make_machine NEW boots and saves a machine.
make_machine() {
	local new=$1 command options
	say "booting kernel $(uname_of "$kernel"), type $type, driver $driver, $vcpus vcpus (later runs continue from here)"
	boot_ramdisk "$dir/dom0.cpio"
	mapfile -t options < <(memory_file "$new/memory" on)
	mapfile -t command < <(boot_command "$dir" "$dir/disk" "${options[@]}")
	boot_twice -qmp "$dir/qmp" -save "$new/state" "${command[@]}"
	if [[ $status != 0 ]]; then
		keep_logs "status $status"
		exit "$status"
	fi
	cp "$dir"/{xen,guest}.log "$new/"
	rm "$dir/dom0.cpio"
}
