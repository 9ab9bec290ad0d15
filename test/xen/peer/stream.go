package main

import (
	"errors"
	"net"
	"strconv"
	"time"
)

const (
	streamPayload = 64                   // bytes of each datagram
	streamPause   = 3 * time.Millisecond // between two bursts: the guest has read the last one
)

// stream sends datagrams to the guest: arguments are how many bursts, datagrams per burst
// and the port.
func stream(arguments []string) error {
	if len(arguments) != 3 {
		return errors.New("want: stream BURSTS DATAGRAMS PORT")
	}
	bursts, err := strconv.Atoi(arguments[0])
	if err != nil {
		return err
	}
	datagrams, err := strconv.Atoi(arguments[1])
	if err != nil {
		return err
	}
	conn, err := net.Dial("udp", net.JoinHostPort(guestAddress, arguments[2]))
	if err != nil {
		return err
	}
	defer conn.Close()
	payload := make([]byte, streamPayload)
	for range bursts {
		for range datagrams {
			if _, err := conn.Write(payload); err != nil {
				return err
			}
		}
		time.Sleep(streamPause)
	}
	return nil
}
