# One run: prepare its ramdisks, boot them, tell a failed boot from a failed program.

# prepare DIR PROGRAM ARGS... readies everything that QEMU boots.
prepare() {
	local dir=$1 module image
	shift
	build_programs
	module=$(driver_module "$kernel" "$driver")
	mkdir -p "$dir/dom0/guest" "$dir/payload"
	image=$(guest_image "$kernel" "$module")
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

# boot DIR boots what was prepared and ends the script with the program's status.
boot() {
	local dir=$1 attempt status command
	mapfile -t command < <(qemu_command "$dir" stdio)
	for attempt in 1 2; do
		status=0
		"$programs/relay" host -boot "${XENTRACE_LAB_BOOT_SECONDS:-180}s" -limit "${limit}s" \
			-log "$dir/guest.log" "${command[@]}" </dev/null || status=$?
		[[ $status = 125 && $attempt = 1 ]] || break
		keep_logs "$dir" "first boot"
		say "booting once more"
	done
	case $status in
	0) [[ -z $keep ]] || keep_logs "$dir" "run" ;;
	*) keep_logs "$dir" "status $status" ;;
	esac
	exit "$status"
}

# keep_logs DIR WHAT saves the consoles' logs of a run that did not go well.
keep_logs() {
	local to=${keep:-${XENTRACE_LAB_LOGS:-$cache/log}/$(date +%Y%m%d-%H%M%S)-$$}
	mkdir -p "$to"
	cp "$1"/{xen,guest}.log "$to/" 2>/dev/null || true
	say "logs of this run ($2): $to"
}
