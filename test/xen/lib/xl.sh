# shellcheck shell=bash
# A run on the Xen that this machine already is dom0 of: the same guest and the same
# peer, without QEMU around them. What needs root is init/on-xen.

# on_xen tells whether this machine is a Xen dom0.
on_xen() { grep -qs control_d /proc/xen/capabilities; }

as_root() {
	if [[ $(id -u) = 0 ]]; then
		"$@"
	else
		sudo "$@"
	fi
}

# run_on_xen START creates the guest, runs the program in it and destroys it; a guest that
# does not boot is tried once more.
run_on_xen() {
	local lock
	# There is one guest at a time on a machine, whoever runs it.
	[[ -e /run/xentrace-lab.lock ]] || as_root install -m 666 /dev/null /run/xentrace-lab.lock
	exec {lock}<>/run/xentrace-lab.lock
	flock "$lock"
	boot_files "$dir/guest"
	guest_config xentrace-lab "$dir/guest" "$lab/init/vif-netns" "$dir/disk,raw,xvda,w" >"$dir/guest/guest.cfg"
	guest_on_xen "$1" {lock}>&-
	[[ $status = 125 ]] || return 0
	keep_logs "the boot that failed"
	say "booting once more"
	guest_on_xen "$1" {lock}>&-
}

# guest_on_xen START makes one attempt and leaves its outcome in status.
guest_on_xen() {
	local console
	guest_created=yes
	if console=$(as_root "$lab/init/on-xen" start "$dir/guest" "$programs/peer" 2>"$dir/xl.log"); then
		with_relay 180 -start "$1 $EPOCHSECONDS" "$lab/init/on-xen" console "$console"
	else
		cat "$dir/xl.log" >&2
		say "the guest could not be created"
		status=125
	fi
	[[ $status = 0 ]] || as_root xl dmesg 2>/dev/null | cat "$dir/xl.log" - >"$dir/xen.log"
	destroy_guest
}

# destroy_guest takes the guest of this run away, if there is one.
destroy_guest() {
	[[ -n ${guest_created:-} ]] || return 0
	as_root "$lab/init/on-xen" stop || say "the guest xentrace-lab could not be destroyed"
	guest_created=""
}
