package process

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
)

const (
	manyMappings = 65_000 // the kernel allows 65,530
	stormPace    = 500 * time.Microsecond
	stormBegins  = 2000 // records
)

// mappings maps the program as often as the kernel allows, and sends datagrams of too many
// slots, 2,000 a second, until it is killed. It writes a line when the first are sent.
func mappings(remote string) error {
	file, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for n := range manyMappings { // every other one may not be written to, so that none is merged
		if _, err := unix.Mmap(file, int64(n%2)*4096, 4096, unix.PROT_READ|unix.PROT_EXEC|n%2*unix.PROT_WRITE, unix.MAP_PRIVATE); err != nil {
			return fmt.Errorf("mapping %d: %w", n, err)
		}
	}
	sender, err := rocket.NewUDP(context.Background(), netip.MustParseAddrPort(remote), rocket.Options{})
	if err != nil {
		return err
	}
	began := time.Now()
	for n := 0; ; n++ {
		if _, err := sender.Send(context.Background()); err != nil {
			return err
		}
		if n == stormBegins {
			fmt.Println("sending")
		}
		time.Sleep(time.Until(began.Add(time.Duration(n) * stormPace)))
	}
}
