# shellcheck shell=bash
# One run: put the program on the disk, boot or continue a machine, tell a failed boot
# from a failed program.

# temporary_directory makes dir, which goes with the script, and ends the run on a signal.
temporary_directory() {
	dir=$(mktemp -d "${TMPDIR:-/tmp}/xentrace-lab.XXXXXX")
	trap 'rm -rf "$dir"' EXIT
	trap 'stop_relay; destroy_guest; exit 130' INT TERM HUP
}

# run_in_guest [PROGRAM ARGS...] makes one run of the program, or of a shell, with the
# settings in force, and ends the script with its status.
run_in_guest() {
	local start
	need cpio xz depmod flock
	on_xen || need qemu-system-x86_64
	build_programs
	module=$(driver_module "$kernel" "$driver")
	mkdir "$dir/payload"
	payload "$dir/payload" "$@"
	pack "$dir/payload" >"$dir/disk"
	rm -r "$dir/payload"
	[[ $(stat -c %s "$dir/disk") -lt $((512 << 20)) ]] || fail "the program and its files are larger than 512 MiB"
	start="start $(($(stat -c %s "$dir/disk") / 1048576 + 1))"
	truncate -s "$disk_size" "$dir/disk"
	if [[ -n ${filesystem:-} ]]; then # of the disk from filesystem_mib on
		dd if="$filesystem" of="$dir/disk" bs=1M seek="${filesystem_mib:?}" conv=notrunc,sparse status=none
	fi
	if on_xen; then
		run_on_xen "$start"
	elif [[ -n $fresh ]]; then
		run_booted "$start"
	else
		run_continued "$start"
	fi
	if [[ $status != 0 && -z $shell || $status = 12[345] || -n $keep ]]; then
		keep_logs "status $status"
	fi
	exit "$status"
}

# build_programs builds the lab's own Go programs; Go's build cache makes it quick.
build_programs() {
	programs=$dir/bin
	mkdir -p "$programs"
	build_go relay "$programs/relay"
	build_go peer "$programs/peer"
}

# run_booted START boots a machine and runs the program in it.
run_booted() {
	local command
	boot_ramdisk "$dir/dom0.cpio"
	mapfile -t command < <(boot_command "$dir" "$dir/disk")
	boot_twice -start "$1 $EPOCHSECONDS" "${command[@]}"
}

# run_continued START runs the program in a saved machine, which is made if need be.
run_continued() {
	local name command options
	name=$(machine_entry)
	entry "$name" make_machine
	machine=$cache/$name
	touch "$machine"
	# A saved machine takes about 700 MB.
	prune machine "${XENTRACE_LAB_MACHINES:-6}"
	prune image 16
	mapfile -t options < <(memory_file "$machine/memory" off)
	mapfile -t command < <(machine_command "$dir" "$dir/disk" "${options[@]}" -incoming defer)
	with_relay 60 -qmp "$dir/qmp" -restore "$machine/state" -start "$1 $EPOCHSECONDS" "${command[@]}"
	[[ $status = 125 ]] || return 0
	keep_logs "the saved machine that failed"
	say "booting instead"
	rm -rf "$machine"
	machine=""
	run_booted "$1"
}

# boot_twice ARGS... is with_relay for a boot, tried once more if it fails.
boot_twice() {
	with_relay 180 "$@"
	[[ $status = 125 ]] || return 0
	keep_logs "the boot that failed"
	say "booting once more"
	with_relay 180 "$@"
}

# with_relay SECONDS ARGS... runs QEMU under `relay host`, with so long for the guest to
# come up, and leaves the outcome in status.
with_relay() {
	local options
	status=0
	rm -f "$dir/qmp"
	options=(-boot "${XENTRACE_LAB_BOOT_SECONDS:-$1}s" -limit "${limit}s" -log "$dir/guest.log" -disk "$dir/disk" ${shell:+-shell})
	shift
	# In the background, so that a signal to this script is not held up.
	"$programs/relay" host "${options[@]}" "$@" <&0 &
	relay=$!
	wait "$relay" || status=$?
	relay=""
}

# stop_relay ends the QEMU that is running, if any.
stop_relay() {
	[[ -z ${relay:-} ]] || { kill "$relay" && wait "$relay"; } 2>/dev/null || true
}

# keep_logs WHAT saves the consoles' logs of a run that did not go well.
keep_logs() {
	local to=${keep:-$cache/log/$(date +%Y%m%d-%H%M%S)-$$}
	mkdir -p "$to"
	cp "$dir"/{xen,guest}.log "$to/" 2>/dev/null || true
	[[ -z ${machine:-} ]] || cp "$machine/guest.log" "$to/boot.log"
	say "logs of this run ($1): $to"
	find "$cache/log" -mindepth 1 -maxdepth 1 -mtime +14 -exec rm -r {} + 2>/dev/null || true
}
