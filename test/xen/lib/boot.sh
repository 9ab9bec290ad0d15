# shellcheck shell=bash
# One run: prepare its ramdisks, boot them, tell a failed boot from a failed program.

# prepare DIR PROGRAM ARGS... readies everything that QEMU boots; without a program,
# for a shell.
prepare() {
	local dir=$1 module image
	shift
	build_programs
	module=$(driver_module "$kernel" "$driver")
	image=$(guest_image "$kernel" "$module")
	mkdir -p "$dir/dom0/guest" "$dir/payload"
	payload "$dir/payload" "$@"
	{
		cat "$image"
		pack "$dir/payload"
	} >"$dir/dom0/guest/initrd"
	cp "$cache/kernel/$kernel/vmlinux" "$dir/dom0/guest/vmlinux"
	settings >"$dir/dom0/guest/conf"
	guest_config "$vcpus" "$append" >"$dir/dom0/guest/guest.cfg"
	boot_disk "$dir"
	rm -r "$dir/dom0" "$dir/payload"
}

# build_programs builds the lab's own Go programs; Go's build cache makes it quick.
build_programs() {
	programs=$dir/bin
	mkdir -p "$programs"
	build_go relay "$programs/relay"
	build_go peer "$programs/peer"
}

# boot DIR [SHELL] boots what was prepared, once more if the guest did not come up,
# and returns the program's status.
boot() {
	local dir=$1 shell=${2:-} attempt status command options
	mapfile -t command < <(qemu_command "$dir" stdio)
	options=(-boot "${XENTRACE_LAB_BOOT_SECONDS:-180}s" -limit "${limit}s" -log "$dir/guest.log" ${shell:+-shell})
	for attempt in 1 2; do
		status=0
		# In the background, so that a signal to this script is not held up.
		"$programs/relay" host "${options[@]}" "${command[@]}" <&0 &
		relay=$!
		wait "$relay" || status=$?
		relay=""
		[[ $status = 125 && $attempt = 1 ]] || break
		keep_logs "$dir" "the boot that failed"
		say "booting once more"
	done
	if [[ $status != 0 && -z $shell || $status = 12[345] || -n $keep ]]; then
		keep_logs "$dir" "status $status"
	fi
	return "$status"
}

# stop_boot ends the QEMU of a boot that is under way.
stop_boot() {
	[[ -z ${relay:-} ]] || { kill "$relay" && wait "$relay"; } 2>/dev/null || true
}

# keep_logs DIR WHAT saves the consoles' logs of a run that did not go well.
keep_logs() {
	local to=${keep:-$cache/log/$(date +%Y%m%d-%H%M%S)-$$}
	mkdir -p "$to"
	cp "$1"/{xen,guest}.log "$to/" 2>/dev/null || true
	say "logs of this run ($2): $to"
	find "$cache/log" -mindepth 1 -maxdepth 1 -mtime +14 -exec rm -r {} + 2>/dev/null || true
}

# temporary_directory makes dir, which goes with the script, and ends QEMU on a signal.
temporary_directory() {
	dir=$(mktemp -d "${TMPDIR:-/tmp}/xentrace-lab.XXXXXX")
	trap 'rm -rf "$dir"' EXIT
	trap 'stop_boot; exit 130' INT TERM HUP
}

# run_in_guest [PROGRAM ARGS...] makes one run of the program, or of a shell, with the
# settings in force, and ends the script with its status.
run_in_guest() {
	need qemu-system-x86_64 cpio xz depmod flock
	prepare "$dir" "$@"
	boot "$dir" "$shell"
	exit
}
