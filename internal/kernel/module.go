package kernel

import (
	"os"
	"path/filepath"
	"syscall"
)

// A Module is one loading of a kernel module. Loading it again makes another.
type Module uint64

// LoadedModule returns the loading of the module that is in the kernel now, and
// false if there is none: it is not loaded, or it is built into the kernel and
// so never leaves, or there is no sysfs to tell.
//
// A loading is told by the inode number of its directory in sysfs: kernfs hands
// these out in a cycle and does not give one twice in a row.
func LoadedModule(name string) (Module, bool) {
	return loadedModule("/sys", name)
}

func loadedModule(sysfs, name string) (Module, bool) {
	directory := filepath.Join(sysfs, "module", name)
	// What is built in may have a directory for its parameters, but no state.
	if _, err := os.Stat(filepath.Join(directory, "initstate")); err != nil {
		return 0, false
	}
	info, err := os.Stat(directory)
	if err != nil {
		return 0, false
	}
	return Module(info.Sys().(*syscall.Stat_t).Ino), true
}
