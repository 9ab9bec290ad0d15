# shellcheck shell=bash
# Packages of any Debian release, without touching the system's own apt set-up:
# a private apt state for each release in the cache. apt itself checks the
# release's signature, the index's hash, and each package's hash against the index.

# archive LABEL prints the address of the archive the machine already uses.
archive() {
	# shellcheck disable=SC2016 # apt fills it in
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" |
		sed -n 1p
}

# sources RELEASE prints the source lines of a Debian release.
sources() {
	local main security suite
	main=$(archive Debian)
	security=$(archive Debian-Security)
	[[ -n $main ]] || fail "apt knows no Debian archive here (apt-get indextargets shows none labelled Debian)"
	[[ -n $security ]] || security=${main%/}-security/
	for suite in $(suites "$1"); do
		case $suite in
		*-security) printf 'deb [%s] %s %s main\n' "$signed_by" "$security" "$suite" ;;
		*) printf 'deb [%s] %s %s main\n' "$signed_by" "$main" "$suite" ;;
		esac
	done
}
signed_by=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg

suites() {
	case $1 in
	sid) echo sid ;;
	bookworm) echo bookworm bookworm-security bookworm-backports ;;
	*) echo "$1" "$1-security" ;;
	esac
}

# in_release RELEASE COMMAND ARGS... runs an apt command on the release's private state.
in_release() {
	local dir=$cache/apt/$1 command=$2
	shift 2
	"$command" -q \
		-o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/nonexistent \
		-o Dir::Etc::Preferences=/nonexistent -o Dir::Etc::PreferencesParts=/nonexistent \
		-o Dir::State="$dir" -o Dir::State::Status="$dir/status" -o Dir::Cache="$dir/cache" \
		-o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Sandbox::User=root \
		-o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
		"$@"
}

# refresh RELEASE makes or renews the private state of a release.
refresh() {
	local dir=$cache/apt/$1
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/status"
	sources "$1" >"$dir/sources.list"
	say "reading the package lists of Debian $1"
	in_release "$1" apt-get update >"$dir/update.log" 2>&1 || {
		cat "$dir/update.log" >&2
		fail "the package lists of Debian $1 could not be fetched"
	}
	touch "$dir/complete"
}

# known RELEASE makes sure of the release's package lists, however old.
known() { [[ -e $cache/apt/$1/complete ]] || refresh "$1"; }

# newest_package RELEASE REGEX prints the matching package name of the highest version in it.
newest_package() {
	in_release "$1" apt-cache pkgnames | grep -Ex "$2" | sort -V | tail -n 1
}

has_package() { in_release "$1" apt-cache show "$2" >/dev/null 2>&1; }

version_of() {
	in_release "$1" apt-cache show "$2" | sed -n 's/^Version: //p' | sed -n 1p
}

# download DIR RELEASE PACKAGE... fetches packages into DIR.
download() {
	local dir=$1 release=$2
	shift 2
	say "fetching $* from Debian $release"
	(cd "$dir" && in_release "$release" apt-get download "$@" >apt.log 2>&1) && return
	# A moving release drops old files: look at the list again before giving up.
	refresh "$release"
	(cd "$dir" && in_release "$release" apt-get download "$@" >apt.log 2>&1) || {
		cat "$dir/apt.log" >&2
		fail "fetching $* from Debian $release failed"
	}
}

# unpack DEB DIR PATTERN... unpacks the package's files that match a pattern, all without one.
unpack() {
	local deb=$1 dir=$2
	shift 2
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir" --wildcards "$@"
}
