package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/test/role"
)

func TestMain(m *testing.M) {
	role.Main(map[string]role.Role{"holder": holdCopies, "confined": confinedNamespaces, "typeless": traceWithoutTypes})
	os.Exit(m.Run())
}

// confinedNamespaces is the process of TestOtherNamespacesWithoutRoot: it drops its
// privileges and describes lo of the network namespace whose number it is given.
func confinedNamespaces(args []string) error {
	inum, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	f := newHolderFinder(kernel.NewTypes())
	if err := f.loaded(); err != nil {
		return err
	}
	if err := KeepPrivileges(kernel.Nobody, nil); err != nil {
		return err
	}
	if os.Getuid() != kernel.Nobody.UID {
		return fmt.Errorf("uid is %d", os.Getuid())
	}
	all, err := netdev.All(context.Background())
	if err != nil {
		return err
	}
	loopback := slices.IndexFunc(all, func(i netdev.Interface) bool { return i.Namespace == uint32(inum) && i.Name == "lo" })
	if loopback < 0 {
		return fmt.Errorf("%v: want lo of network namespace %d", all, inum)
	}
	_, readErr := readKernel(context.Background(), newSpaces(nil, slices.Values([]*watchedInterface{})), all[loopback], false)
	// Owners of sockets and a driver's return still work.
	_, findErr := f.find(event.Wanted{Inodes: []uint64{1}})
	_, loadErr := loadPrograms(kernel.NewTypes(), "settle_packets")
	return errors.Join(readErr, findErr, loadErr, refusedToWrite())
}

func refusedToWrite() error {
	for _, path := range []string{"/etc/cron.d/xentrace-test", "/run/xentrace-test", "/proc/sys/kernel/hostname"} {
		if file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
			_ = file.Close()
			return fmt.Errorf("%s: could be opened for writing", path)
		} else if !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
