//go:build xenlab && matrix

package guest

import (
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// segments sends TCP segments that the interface is to cut, straight from a packet
// socket: they belong to no connection, so that nothing sends them again.
func segments(t *testing.T, r *row) sent {
	fd := packetSocket(t)
	defer func() { _ = unix.Close(fd) }()
	packet := segment(t, r, 4000, 1448)
	s := sent{path: rounds * pathOfRound, struck: rounds * pathOfRound, unseen: true}
	s.ordinary = inRounds(t, pathOfRound, func() error {
		_, err := unix.Write(fd, packet)
		return err
	})
	return s
}

// packetSocket sends frames that say how they are to be cut.
func packetSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		t.Fatal(err)
	}
	device, err := net.InterfaceByName(ifname)
	if err != nil {
		t.Fatal(err)
	}
	const ip = uint16(unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ip, Ifindex: device.Index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// segment is one TCP segment of so many bytes, to be cut into pieces of size, with
// the header that shows the kernel so (struct virtio_net_hdr).
func segment(t *testing.T, r *row, length, size int) []byte {
	t.Helper()
	const ethernet, ip, tcp = 14, 20, 20
	device, err := net.InterfaceByName(ifname)
	if err != nil {
		t.Fatal(err)
	}
	order := make([]byte, 10)
	order[0], order[1] = 1, 1 // checksum needed; TCP over IPv4
	binary.NativeEndian.PutUint16(order[2:], ethernet+ip+tcp)
	binary.NativeEndian.PutUint16(order[4:], uint16(size))
	binary.NativeEndian.PutUint16(order[6:], ethernet+ip)
	binary.NativeEndian.PutUint16(order[8:], 16) // the checksum in the TCP header

	frame := append([]byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff}, device.HardwareAddr...)
	frame = append(frame, 8, 0)
	header := make([]byte, ip)
	header[0], header[8], header[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(header[2:], uint16(ip+tcp+length))
	copy(header[12:], []byte{10, 44, 0, 2})
	copy(header[16:], peerAddr(t, "ipv4").AsSlice())
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	body := make([]byte, tcp+length)
	binary.BigEndian.PutUint16(body[0:], 7000)
	binary.BigEndian.PutUint16(body[2:], uint16(r.port))
	body[12], body[13] = 5<<4, 0x10 // header length, ACK
	return append(append(append(order, frame...), header...), body...)
}
