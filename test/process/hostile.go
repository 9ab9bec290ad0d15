package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
)

const (
	manyMappings     = 65_000 // the kernel allows 65,530
	stormPace        = 500 * time.Microsecond
	stormBegins      = 2000 // records
	spareDescriptors = 100
	ordinaryPace     = 20 * time.Millisecond
	bulkPace         = 100 * time.Millisecond
	steadyPace       = 100 * time.Millisecond
)

// hostile does what a kind of hostile process does.
func hostile(kind string, args []string) error {
	switch kind {
	case "mappings", "duplicates", "image", "flood", "links", "device", "blocked":
		go func() { // none outlives a test that is killed
			_ = wait()
			os.Exit(0)
		}()
	}
	switch kind {
	case "mappings":
		return mappings(args[0])
	case "duplicates":
		return duplicates(args[0], args[1])
	case "holder":
		return holder(args[0])
	case "image":
		return image(args[0], args[1], args[2])
	case "flood":
		return flood(args[0], ordinaryPace, 1)
	case "links":
		return inNamespaces(unix.CLONE_NEWNET, "linking")
	case "linking":
		return links()
	case "device":
		return inNamespaces(unix.CLONE_NEWNS, "covering", args...)
	case "covering":
		return device(args[0], args[1])
	case "covered":
		return covered(args[0])
	case "blocked":
		return inNamespaces(unix.CLONE_NEWNS|unix.CLONE_NEWPID, "blocked-inside", args...)
	case "blocked-inside":
		return blocked(args[0], args[1], args[2], args[3])
	case "blocking":
		return blocking(args[0], args[1])
	case "steady":
		return steady(args[0])
	}
	return errors.New("unknown")
}

// sending is the line of a hostile process that has begun.
func sending() { fmt.Println("sending") }

// flood sends datagrams of too many slots until it is killed. It writes a line when so many
// are sent.
func flood(remote string, pace time.Duration, announce int) error {
	sender, err := rocket.NewUDP(context.Background(), netip.MustParseAddrPort(remote), rocket.Options{})
	if err != nil {
		return err
	}
	began := time.Now()
	for n := 0; ; n++ {
		if _, err := sender.Send(context.Background()); err != nil {
			return err
		}
		if n == announce {
			sending()
		}
		time.Sleep(time.Until(began.Add(time.Duration(n) * pace)))
	}
}

// mappings maps the program as often as the kernel allows, and sends 2,000 datagrams a second.
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
	return flood(remote, stormPace, stormBegins)
}

// duplicates holds a connection by so many descriptors, in as many processes as that takes, and
// writes segments to it that are sent from interrupts, so that the holders are looked for.
func duplicates(remote, count string) error {
	left, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", remote)
	if err != nil {
		return err
	}
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	for each := int(limit.Max) - spareDescriptors; left > 0; left -= each {
		cmd := exec.Command("/proc/self/exe", strconv.Itoa(min(left, each)))
		cmd.Env = append(os.Environ(), role+"=holder")
		cmd.ExtraFiles, cmd.Stderr = []*os.File{file}, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		ready, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		if _, err := ready.Read(make([]byte, 1)); err != nil {
			return err
		}
	}
	sending()
	for block := make([]byte, 2<<20); ; time.Sleep(bulkPace) {
		if _, err := conn.Write(block); err != nil {
			return err
		}
	}
}

// holder holds the socket that it was given by so many descriptors.
func holder(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	const socket = 3
	for range n {
		if _, err := unix.Dup(socket); err != nil {
			return err
		}
	}
	sending()
	return unix.Pause()
}

// steady writes its port and sends a datagram of too many slots every 100 ms, until the test
// closes standard input; then it writes how many. It keeps its socket until it is killed.
func steady(remote string) error {
	sender, err := rocket.NewUDP(context.Background(), netip.MustParseAddrPort(remote), rocket.Options{})
	if err != nil {
		return err
	}
	fmt.Println(sender.Local().Port())
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	for n := 0; ; n++ {
		select {
		case err := <-ended:
			fmt.Println(n)
			runtime.KeepAlive(sender)
			return errors.Join(err, unix.Pause())
		case <-time.After(steadyPace):
		}
		if _, err := sender.Send(context.Background()); err != nil {
			return err
		}
	}
}
