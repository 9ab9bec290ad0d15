# shellcheck shell=bash
# A compiler for headers whose own tools want a newer C library than this system's:
# the release's own, unpacked into the cache and entered with chroot.

toolchain_packages=(gcc binutils make dwarves bash dash coreutils sed grep mawk findutils
	diffutils perl-base xz-utils zstd libelf1t64 base-files)

# fetch_toolchain RELEASE makes sure of the release's compiler.
fetch_toolchain() { entry "toolchain/$1" make_toolchain "$1"; }

make_toolchain() {
	local new=$1 release=$2 deb
	known "$release"
	say "fetching a compiler from Debian $release"
	mkdir "$new/debs"
	# The private state knows no installed package, so apt resolves them all.
	in_release "$release" apt-get install --download-only --yes --no-install-recommends \
		-o Dir::Cache::Archives="$new/debs" "${toolchain_packages[@]}" >"$new/apt.log" 2>&1 || {
		cat "$new/apt.log" >&2
		fail "fetching a compiler from Debian $release failed"
	}
	mkdir -p "$new/root/usr/bin" "$new/root/tmp" "$new/root/dev" "$new/root/proc"
	# Links first: the packages rely on /bin and /lib leading into /usr.
	for deb in bin sbin lib lib64; do
		mkdir -p "$new/root/usr/$deb"
		ln -s "usr/$deb" "$new/root/$deb"
	done
	for deb in "$new"/debs/*.deb; do
		unpack "$deb" "$new/root" --keep-directory-symlink --exclude='./usr/share/doc/*' \
			--exclude='./usr/share/locale/*' --exclude='./usr/share/man/*' .
	done
	ln -sf dash "$new/root/usr/bin/sh"
	ln -sf mawk "$new/root/usr/bin/awk"
	rm -r "$new/debs"
}

# toolchain_for KERNEL prints the directory to chroot into, nothing if this system's
# own compiler does.
toolchain_for() {
	local release
	[[ $(kernel_release "$1") = sid ]] || return 0
	release=$(kernel_release "$1")
	fetch_toolchain "$release"
	echo "$cache/toolchain/$release/root"
}

# with_toolchain ROOT DIR COMMAND... runs a command in DIR, in ROOT's userland if ROOT
# is not empty. The cache keeps its place there.
with_toolchain() {
	local root=$1 dir=$2
	shift 2
	if [[ -z $root ]]; then
		(cd "$dir" && "$@")
		return
	fi
	[[ $(id -u) = 0 ]] || fail "building with another release's compiler wants root, for chroot"
	mkdir -p "$root$cache"
	# shellcheck disable=SC2016 # each shell expands its own arguments
	unshare --mount bash -c 'mount --rbind "$2" "$1$2" && mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" &&
		exec chroot "$1" /bin/bash -c '\''cd "$0" && exec "$@"'\'' "${@:3}"' \
		bash "$root" "$cache" "$dir" "$@"
}
