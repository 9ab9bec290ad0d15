# shellcheck shell=bash
# The cache outside git. Every entry is a directory that is made elsewhere and
# renamed into place when it is whole, so what is there can be trusted.

cache=${XENTRACE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xentrace}

# entry DIR FUNCTION ARGS... makes the cache entry DIR, if it is not there yet,
# by calling FUNCTION NEWDIR ARGS... under the cache's lock.
entry() {
	local dir=$cache/$1 make=$2 new
	shift 2
	[[ -d $dir ]] && return
	mkdir -p "$(dirname "$dir")"
	(
		flock 9
		[[ -d $dir ]] && exit
		new=$dir.new
		rm -rf "$new"
		mkdir -p "$new"
		"$make" "$new" "$@"
		mv "$new" "$dir"
	) 9>"$dir.lock"
	rm -f "$dir.lock"
}

# digest reads what a cache entry is made from and prints a short name for it.
digest() { sha256sum | cut -c1-16; }
