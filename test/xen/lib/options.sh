# shellcheck shell=bash
# The settings of one run, which the flags of test/xen/run change.

# Of the machine, in Debian's and Go's name; test/xen/arm64 changes it.
architecture=amd64
kernel=6.1
type=pv
driver=stock
vcpus=1
mtu=1500
limit=600
append=""
netback=""
keep=""
fresh=""
icount=""
shell=""
files=()
environment=()

# parse_options ARGS... takes the flags up to -- and leaves what follows in rest.
parse_options() {
	while [[ $# -gt 0 && $1 != -- ]]; do
		case $1 in
		--help | -h)
			usage
			exit
			;;
		--shell | --fresh | --icount)
			printf -v "${1#--}" yes
			shift
			continue
			;;
		--*) [[ $# -gt 1 ]] || fail "$1 wants a value" ;;
		*) fail "unexpected $1: what follows the flags comes after --" ;;
		esac
		option "$1" "$2"
		shift 2
	done
	[[ $# -eq 0 ]] || shift
	rest=("$@")
}

option() {
	case $1 in
	--kernel) kernel=$2 ;;
	--type) type=$(guest_type "$2") ;;
	--driver) driver=$2 ;;
	--vcpus) vcpus=$(number "$@") ;;
	--mtu) mtu=$(number "$@") ;;
	--timeout) limit=$(number "$@") ;;
	--file) files+=("$2") ;;
	--env) environment+=("$2") ;;
	--append) append=$2 ;;
	--netback) netback=$2 ;;
	--keep) keep=$2 ;;
	*) fail "no flag $1; see $0 --help" ;;
	esac
}

guest_type() {
	case $1 in
	pv | pvh | hvm) echo "$1" ;;
	*) fail "no type of guest $1: choose pv, pvh or hvm" ;;
	esac
}

# split_column KERNEL[:TYPE] sets kernel and type.
split_column() {
	kernel=${1%:*} type=pv
	[[ $1 != *:* ]] || type=$(guest_type "${1#*:}")
}

number() {
	[[ $2 =~ ^[1-9][0-9]*$ ]] || fail "$1 wants a number, not $2"
	echo "$2"
}
