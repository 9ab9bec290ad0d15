# shellcheck shell=bash
# Messages of the lab's scripts: everything that is not the guest program's
# output goes to stderr.

say() { printf 'xen lab: %s\n' "$*" >&2; }

# usage prints the calling script's opening comment, its documentation.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

# fail prints why and ends with the status of a usage or set-up error.
fail() {
	say "$*"
	exit 126
}

# need CMD... ends with a hint when one of the host's commands is missing.
need() {
	local cmd
	for cmd; do
		PATH="$PATH:/usr/sbin:/sbin" command -v "$cmd" >/dev/null ||
			fail "$cmd is missing here; test/xen/deps installs what the lab needs"
	done
}
