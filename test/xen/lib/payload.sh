# shellcheck shell=bash
# What one run adds to the cached images: the program, its files, its environment.

# quote WORD... prints the words so that a POSIX shell reads them back unchanged.
quote() {
	local word
	for word; do
		printf "'%s' " "${word//\'/\'\\\'\'}"
	done
}

# run_settings prints the settings that both inits read.
run_settings() {
	cat <<-EOF
		LAB_PEER=10.44.0.1
		LAB_PEER6=fd44::1
		LAB_GUEST=10.44.0.2
		LAB_GUEST6=fd44::2
		LAB_GUEST_MAC=$guest_mac
		LAB_MTU=$mtu
		LAB_VCPUS=$vcpus
		LAB_KERNEL=$(quote "$(uname_of "$kernel")")
		LAB_DRIVER=$(quote "$driver")
		NETBACK_PARAMETERS=$(quote "$(netback_parameters)")
	EOF
}

# payload TREE PROGRAM ARGS... fills the guest's part of a run.
payload() {
	local tree=$1 program=${2:-} file pair
	shift
	mkdir -p "$tree/etc/lab" "$tree/lab"
	# Not among the guest's settings, which saved machines were made with.
	printf 'export XENTRACE_LAB_NETBACK=%s XENTRACE_LAB_TYPE=%s\n' "$(quote "$(netback_parameters)")" "$type" >"$tree/etc/lab/env"
	for pair in ${environment[@]+"${environment[@]}"}; do
		[[ $pair == *=* ]] || fail "--env wants NAME=VALUE, not $pair"
		printf 'export %s=%s\n' "${pair%%=*}" "$(quote "${pair#*=}")"
	done >>"$tree/etc/lab/env"
	for file in ${files[@]+"${files[@]}"}; do
		add_file "$tree" "${file%%:*}" "$([[ $file != *:* ]] || echo "${file#*:}")"
	done
	[[ ! -e $cache/kernel/$kernel/types ]] || add_file "$tree" "$cache/kernel/$kernel/types" vmlinux
	if [[ -z $program ]]; then
		interactive >"$tree/etc/lab/command"
		return
	fi
	if [[ $program == */* && -e $program ]]; then
		add_file "$tree" "$program" ""
		shift
		set -- "./$(basename "$program")" "$@"
	fi
	# Not where instructions are counted: signs of life take some.
	echo "relay $([[ -n $icount ]] && echo exec || echo watched) /dev/xvda $(quote "$@")" >"$tree/etc/lab/command"
}

# add_file TREE HOSTPATH GUESTPATH copies into the tree, to /lab without a GUESTPATH.
add_file() {
	local to=${3:-/lab/$(basename "$2")}
	[[ -e $2 ]] || fail "$2: no such file"
	[[ $to == /* ]] || to=/lab/$to
	mkdir -p "$1$(dirname "$to")"
	cp -aL "$2" "$1$to"
}

# interactive prints the guest's command for a shell on a terminal of our size.
interactive() {
	local rows columns
	read -r rows columns < <(stty size 2>/dev/null || echo 0 0)
	# A terminal that does not tell its size says 0.
	((rows > 0 && columns > 0)) || rows=24 columns=80
	cat <<-EOF
		export PS1='xen-lab:\w# ' TERM=$(quote "${TERM:-linux}")
		relay begin /dev/hvc0 ''
		stty -F /dev/hvc0 sane rows $rows cols $columns
		setsid -c bash --norc </dev/hvc0 >/dev/hvc0 2>&1
		code=\$?
		stty -F /dev/hvc0 raw -echo
		relay status /dev/hvc0 \$code
	EOF
}
