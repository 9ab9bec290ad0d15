# shellcheck shell=bash
# Finding Go, which the lab presumes, also under the short PATH that sudo sets.

go_tool() {
	local dir
	for dir in "" /usr/local/go/bin /usr/lib/go/bin "$HOME/go/bin" ${SUDO_USER:+"$(getent passwd "$SUDO_USER" | cut -d: -f6)/go/bin"}; do
		if [[ -z $dir ]]; then
			command -v go && return
		elif [[ -x $dir/go ]]; then
			echo "$dir/go"
			return
		fi
	done
	fail "Go 1.26 is needed and was not found in PATH or /usr/local/go/bin"
}

# build_go PACKAGE OUTPUT builds a static Linux program of this module.
build_go() {
	local tool
	tool=$(go_tool)
	(cd "$lab" && CGO_ENABLED=0 GOOS=linux GOARCH=$architecture "$tool" build -buildvcs=false -trimpath -ldflags='-s -w' -o "$2" "./$1")
}

# build_tests PACKAGE OUTPUT [TAG] builds the tests of one of this module's packages,
# those with the tag too, to run in the guest.
build_tests() {
	local tool
	tool=$(go_tool)
	(cd "$lab/../.." && CGO_ENABLED=0 GOOS=linux GOARCH=$architecture "$tool" test -c -buildvcs=false -trimpath -tags "xenlab${3:+,$3}" \
		-ldflags='-s -w' -o "$2" "./$1")
}
