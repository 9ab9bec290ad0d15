package process

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
)

// A process whose memory is on a FUSE server that never answers. The mount of the server, in a user
// namespace, has files of a page. A process maps one, writes to the page, and maps something else over
// it: the kernel then writes the page back with the process's mmap_lock held, and waits for
// the answer of the server, which never comes. Whoever reads maps, cmdline or environ of the
// process waits too (Linux 6.18). Every other process executes itself with a file of that system
// open, which the kernel closes with exec_update_lock held: whoever reads its stat, ns/net, root,
// exe or cwd waits as well.

// blocked mounts such a file system below a directory by a device node of FUSE, and has so many
// processes block on it, one after the other.
func blocked(remote, directory, node, count string) error {
	processes, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	mount := filepath.Join(directory, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		return err
	}
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("fuse", mount, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount of FUSE: %w", err)
	}
	failed := make(chan error, 2)
	go func() { failed <- serve(fd) }()
	go func() {
		if err := blockAll(remote, mount, processes); err != nil {
			failed <- err
		}
	}()
	return <-failed
}

const (
	blockedPace  = 100 * time.Millisecond
	blockedSends = 5
)

func blockAll(remote, mount string, processes int) error {
	for n := range processes {
		cmd := exec.Command("/proc/self/exe", remote, filepath.Join(mount, strconv.Itoa(n)))
		cmd.Env = append(os.Environ(), role+"=blocking")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return err
		}
		time.Sleep(blockedPace)
	}
	return nil
}

// blocking is a process that blocks, right after it sent datagrams.
func blocking(remote, path string) error {
	const page = 4096
	sender, err := rocket.NewUDP(context.Background(), netip.MustParseAddrPort(remote), rocket.Options{})
	if err != nil {
		return err
	}
	file, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	mapped, err := unix.Mmap(file, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	for range blockedSends {
		if _, err := sender.Send(context.Background()); err != nil {
			return err
		}
	}
	sending()
	if number, err := strconv.Atoi(filepath.Base(path)); err != nil || number%2 == 1 {
		return errors.Join(err, unix.Munmap(mapped), unix.Exec("/proc/self/exe", []string{"closing"}, nil))
	}
	mapped[0] = 1
	_, _, errno := unix.RawSyscall6(unix.SYS_MMAP, uintptr(unsafe.Pointer(&mapped[0])), page,
		unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, ^uintptr(0), 0)
	return fmt.Errorf("mapping over the page returned: %w", errno)
}

// Operations of the protocol, include/uapi/linux/fuse.h.
const (
	fuseLookup, fuseForget, fuseGetattr, fuseOpen = 1, 2, 3, 14
	fuseRead, fuseWrite, fuseFlush                = 15, 16, 25
	fuseInit, fuseForgets                         = 26, 42
)

type fuseIn struct {
	Len, Opcode    uint32
	Unique, Node   uint64
	UID, GID, PID  uint32
	TotalExtension uint32
}

type fuseAttributes struct {
	Inode, Size, Blocks           uint64
	Accessed, Modified, Changed   uint64
	Nanoseconds                   [3]uint32
	Mode, Links, UID, GID, Device uint32
	BlockSize, Flags              uint32
}

const fuseRoot = 1

func attributes(node uint64) fuseAttributes {
	a := fuseAttributes{Inode: node, Mode: unix.S_IFREG | 0o666, Size: 4096, Links: 1, BlockSize: 4096}
	if node == fuseRoot {
		a.Mode = unix.S_IFDIR | 0o777
	}
	return a
}

// serve answers what is asked about the files, but not that a page be written or a file closed.
func serve(fd int) error {
	request := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, request)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT): // interrupted request
			continue
		case err != nil:
			return fmt.Errorf("FUSE request: %w", err)
		}
		var in fuseIn
		if err := binary.Read(bytes.NewReader(request[:n]), binary.LittleEndian, &in); err != nil {
			return err
		}
		if in.Opcode == fuseWrite || in.Opcode == fuseFlush || in.Opcode == fuseForget || in.Opcode == fuseForgets {
			continue
		}
		if err := answer(fd, &in, request[binary.Size(in):n]); err != nil {
			return err
		}
	}
}

func answer(fd int, in *fuseIn, argument []byte) error {
	var body any
	failure := int32(0)
	switch in.Opcode {
	case fuseInit:
		body = struct {
			Major, Minor, ReadAhead, Flags uint32
			Background, Congestion         uint16
			MaxWrite, Granularity          uint32
			MaxPages, Padding              uint16
			Unused                         [8]uint32
		}{Major: 7, Minor: 31, Background: 100, Congestion: 100, MaxWrite: 1 << 17, Granularity: 1}
	case fuseLookup: // of a number
		file, err := strconv.Atoi(string(bytes.TrimRight(argument, "\x00")))
		if err != nil {
			return err
		}
		node := uint64(fuseRoot + 1 + file)
		body = struct {
			Node, Generation, EntryValid, AttributesValid uint64
			Nanoseconds                                   [2]uint32
			Attributes                                    fuseAttributes
		}{Node: node, EntryValid: 1000, AttributesValid: 1000, Attributes: attributes(node)}
	case fuseGetattr:
		body = struct {
			Valid      uint64
			Unused     [2]uint32
			Attributes fuseAttributes
		}{Valid: 1000, Attributes: attributes(in.Node)}
	case fuseOpen:
		body = [2]uint64{}
	case fuseRead:
		body = make([]byte, 4096)
	default:
		failure = -int32(unix.ENOSYS)
	}
	var out bytes.Buffer
	if body != nil {
		if err := binary.Write(&out, binary.LittleEndian, body); err != nil {
			return err
		}
	}
	header := struct {
		Len    uint32
		Error  int32
		Unique uint64
	}{uint32(16 + out.Len()), failure, in.Unique}
	var all bytes.Buffer
	if err := binary.Write(&all, binary.LittleEndian, header); err != nil {
		return err
	}
	all.Write(out.Bytes())
	_, err := unix.Write(fd, all.Bytes())
	return err
}
