package facts

import (
	"io/fs"
	"strconv"
	"strings"
)

// hasSpuriousFix reports whether a release has "xen/netfront: Fix TX response spurious interrupts":
// 6.17 and the stable releases. A distribution may have it earlier.
func hasSpuriousFix(version string) bool {
	numbers := make([]int, 3)
	for n, text := range strings.SplitN(version, ".", 3) {
		digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
		numbers[n], _ = strconv.Atoi(text[:digits])
	}
	switch major, minor, patch := numbers[0], numbers[1], numbers[2]; {
	case major == 6 && minor == 1:
		return patch >= 149
	case major == 6 && minor == 12:
		return patch >= 43
	default:
		return major > 6 || major == 6 && minor >= 17
	}
}

// version is the kernel's version: Debian's uname -r has its own numbers, and the version is in
// /proc/version.
func version(files fs.FS) string {
	if _, after, is := strings.Cut(text(files, "proc/version"), " Debian "); is {
		version, _, _ := strings.Cut(after, "-")
		return version
	}
	return text(files, "proc/sys/kernel/osrelease")
}
