# shellcheck shell=bash
# The cache outside git. Every entry is a directory that is made elsewhere and
# renamed into place when it is whole, so what is there can be trusted.

cache=${XENTRACE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xentrace}

# entry NAME FUNCTION ARGS... makes the cache entry NAME, if it is not there yet, by
# calling FUNCTION NEWDIR ARGS..., one script at a time.
entry() {
	local dir_of_entry=$cache/$1 make=$2 new lock lock_fd
	[[ -d $dir_of_entry ]] && return
	lock=$cache/lock/${1//\//-}
	mkdir -p "$(dirname "$dir_of_entry")" "$cache/lock"
	shift 2
	exec {lock_fd}>"$lock"
	flock "$lock_fd"
	if [[ ! -d $dir_of_entry ]]; then
		new=$dir_of_entry.new
		rm -rf "$new"
		mkdir -p "$new"
		"$make" "$new" "$@"
		mv "$new" "$dir_of_entry"
	fi
	exec {lock_fd}>&-
}

# digest reads what a cache entry is made from and prints a short name for it.
digest() { sha256sum | cut -c1-16; }

# prune KIND KEEP drops the entries of a kind that were used least lately, and what a
# script that was killed left half-made.
prune() {
	find "$cache/$1" -mindepth 1 -maxdepth 1 -type d -name '*.new' -mmin +60 -exec rm -rf {} +
	find "$cache/$1" -mindepth 1 -maxdepth 1 -type d ! -name '*.new' -printf '%T@ %p\n' |
		sort -rn | tail -n +"$(($2 + 1))" | cut -d' ' -f2- | xargs -r rm -rf --
}
