# The frontend driver as it is not: variants of Debian's xen-netfront, each a small
# edit of ours to the kernel's own source, built out of tree.

# driver_module KERNEL DRIVER prints the module to load, nothing for the stock one.
driver_module() {
	[[ $2 != stock ]] || return 0
	[[ -e $lab/variants/$2.sed ]] || fail "no driver $2: choose stock or one of $(variants)"
	fail "not yet"
}

variants() { (cd "$lab/variants" && ls ./*.sed | sed 's,^\./,,; s/\.sed$//' | tr '\n' ' '); }

# driver_netback_parameters DRIVER prints the parameters its backend needs.
driver_netback_parameters() {
	[[ $1 != stock ]] || return 0
	sed -n 's/^# netback: //p' "$lab/variants/$1.sed"
}
