# shellcheck shell=bash
# Kernels that Debian does not have, built from Debian's source of 6.12: kernels/guest.config,
# and over it the lines of kernels/NAME.config. Their drivers are built in; they have no
# modules. All are built in one tree, so that one builds what differs from the last; those
# with clang (CONFIG_CC_IS_CLANG=y) have their objects apart.

built_source=6.12
llvm=-19 # what the names of clang's programs end in

# fetch_built_kernel KERNEL builds the kernel, a newer one if its configuration has changed.
fetch_built_kernel() {
	local kernel=$1 key
	key=$(built_config "$kernel" | digest)
	if [[ -d $cache/kernel/$kernel && $(cat "$cache/kernel/$kernel/key") != "$key" ]]; then
		rm -r "$cache/kernel/$kernel"
	fi
	entry "kernel/$kernel" build_kernel "$kernel" "$key"
}

# built_config KERNEL prints what is set over tinyconfig.
built_config() {
	cat "$lab/kernels/guest.config" "$lab/kernels/${1#"$built_source"-}.config"
	echo "CONFIG_LOCALVERSION=\"-${1#"$built_source"-}\""
}

# fetch_kernel_tree unpacks Debian's source, which later builds leave their objects in.
fetch_kernel_tree() { entry "tree/$built_source" make_kernel_tree; }

make_kernel_tree() {
	local new=$1 release name deb
	release=$(kernel_release "$built_source")
	name=linux-source-$built_source
	known "$release"
	download "$new" "$release" "$name"
	deb=("$new"/*.deb)
	mkdir "$new/source"
	dpkg-deb --fsys-tarfile "${deb[0]}" | tar -x -O --wildcards '*/linux-source-*.tar.xz' |
		xz -dc | tar -x -C "$new/source" --strip-components 1
	rm "${deb[0]}"
	version_of "$release" "$name" >"$new/version"
}

# build_kernel NEW KERNEL KEY makes the entry that lib/kernels.sh makes of Debian's packages.
build_kernel() {
	local new=$1 kernel=$2 key=$3 tree=$cache/tree/$built_source objects compiler lock_fd
	need make gcc flex bison bc pahole objcopy depmod
	fetch_kernel_tree
	objects=$tree/objects compiler=()
	if built_config "$kernel" | grep -qx CONFIG_CC_IS_CLANG=y; then
		need "clang$llvm" "ld.lld$llvm" "llvm-objcopy$llvm"
		objects+=-clang compiler=(LLVM="$llvm")
	fi
	mkdir -p "$objects"
	exec {lock_fd}>"$cache/lock/tree-$built_source"
	flock "$lock_fd"
	say "building the kernel $kernel, which takes a while; log: $new/build.log"
	{
		kernel_make tinyconfig && built_config "$kernel" >>"$objects/.config" &&
			kernel_make olddefconfig && kernel_make -j"$(nproc)" vmlinux
	} >"$new/build.log" 2>&1 || {
		tail -n 30 "$new/build.log" >&2
		fail "the kernel $kernel does not build"
	}
	check_config "$kernel" "$objects/.config"
	mkdir "$new/modules"
	: >"$new/modules/modules.order"
	cp "$objects"/modules.builtin* "$new/modules/"
	cp "$objects/.config" "$new/config"
	objcopy --strip-debug "$objects/vmlinux" "$new/vmlinux"
	grep -qx CONFIG_DEBUG_INFO_BTF=y "$new/config" || make_types "$objects/vmlinux" "$new/types"
	cp "$objects/include/config/kernel.release" "$new/uname"
	cp "$tree/version" "$new/version"
	echo "$key" >"$new/key"
	exec {lock_fd}>&-
}

# make_types VMLINUX OUT keeps the types of a kernel that does not have them itself, and its build id.
make_types() {
	pahole -J --btf_encode_detached="$2.btf" "$1"
	objcopy --only-section=.notes --add-section=.BTF="$2.btf" "$1" "$2"
	rm "$2.btf"
}

kernel_make() { nice make -s -C "$tree/source" O="$objects" ARCH=x86_64 "${compiler[@]}" "$@"; }

# check_config KERNEL FILE fails if the kernel's configuration system did not take a line.
check_config() {
	local line
	built_config "$1" | tac | awk '{ name = $1 == "#" ? $2 : $1; sub(/=.*/, "", name) } /CONFIG_/ && !seen[name]++' |
		while read -r line; do
			case $line in
			*=*) grep -qxF "$line" "$2" || fail "kernel $1: no $line" ;;
			*) ! grep -q "^$(cut -d' ' -f2 <<<"$line")=" "$2" || fail "kernel $1: not $line" ;;
			esac
		done
}
