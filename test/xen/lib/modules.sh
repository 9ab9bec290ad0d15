# shellcheck shell=bash
# Kernel modules for an initramfs: the chosen ones and what they depend on.

dom0_modules=(ata_piix sd_mod xen-blkback xenfs xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xen-netback)
guest_modules=(
	xen-netfront xen-blkfront veth dummy 8021q bridge bonding macvlan vxlan tun ifb
	pktgen netconsole af_packet_diag inet_diag tcp_diag udp_diag unix_diag netlink_diag
	sch_netem sch_fq sch_tbf sch_ingress cls_bpf cls_u32 cls_matchall act_mirred
	ip_gre ipip sit ip6_tunnel ip6_gre xt_MASQUERADE iptable_nat nft_masq nft_chain_nat
)

# install_modules ROOT KERNEL MODULE... puts modules under ROOT/lib/modules, decompressed.
# A module this kernel has built in or lacks is left out.
install_modules() {
	local root=$1 from=$cache/kernel/$2 uname dir name path
	uname=$(uname_of "$2")
	shift 2
	dir=$root/lib/modules/$uname
	mkdir -p "$dir"
	cp "$from"/modules/modules.{builtin,order} "$dir/"
	[[ -e $from/modules/modules.builtin.modinfo ]] && cp "$from/modules/modules.builtin.modinfo" "$dir/"
	module_files "$from/modules" "$@" | sort -u | while read -r path; do
		mkdir -p "$dir/$(dirname "$path")"
		cp "$from/modules/$path" "$dir/$path"
		case $path in
		*.xz) xz -d "$dir/$path" ;;
		*.zst) zstd -q --rm -d "$dir/$path" ;;
		esac
	done
	PATH=$PATH:/sbin:/usr/sbin depmod -b "$root" "$uname"
}

# module_files TREE MODULE... prints the modules' files and those of their dependencies.
module_files() {
	local tree=$1 name
	shift
	[[ -e $tree/modules.dep ]] || index_modules "$tree"
	for name; do
		name=${name//[-_]/[-_]}
		grep -E "(^|/)${name}\.ko[.a-z]*:" "$tree/modules.dep" | tr -d : | tr ' ' '\n' || true
	done | sed '/^$/d'
}

# print_module KERNEL NAME prints a module of Debian's, decompressed.
print_module() {
	local path
	path=$(find "$cache/kernel/$1/modules" -name "$2.ko*" -print -quit)
	case $path in
	*.xz) xz -dc "$path" ;;
	*.zst) zstd -qdc "$path" ;;
	*) cat "$path" ;;
	esac
}

# index_modules TREE makes modules.dep, which Debian makes when the package is installed.
index_modules() {
	local tree=$1 base
	base=$(mktemp -d)
	mkdir -p "$base/lib/modules"
	ln -s "$tree" "$base/lib/modules/0.0"
	PATH=$PATH:/sbin:/usr/sbin depmod -b "$base" 0.0
	rm -r "$base"
}
