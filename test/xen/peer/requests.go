package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// guestAddress is where the guest's servers are asked.
const guestAddress = "10.44.0.2"

// answerPatience is how long a server in the guest may take over one request.
const answerPatience = 30 * time.Second

// request has clients of its own ask a server in the guest: arguments are how many
// requests, of how many clients at once, and the server's port. Each is a connection of
// its own, on which a few bytes go there and as many come back.
func request(arguments []string) error {
	if len(arguments) != 3 {
		return errors.New("want: request REQUESTS CLIENTS PORT")
	}
	left, err := strconv.ParseInt(arguments[0], 10, 64)
	if err != nil {
		return err
	}
	clients, err := strconv.Atoi(arguments[1])
	if err != nil {
		return err
	}
	at := net.JoinHostPort(guestAddress, arguments[2])
	var remaining atomic.Int64
	remaining.Store(left)
	failures := make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for failures[i] == nil && remaining.Add(-1) >= 0 {
				failures[i] = requestOnce(at)
			}
		})
	}
	all.Wait()
	return errors.Join(failures...)
}

func requestOnce(at string) error {
	conn, err := net.DialTimeout("tcp", at, answerPatience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerPatience)); err != nil {
		return err
	}
	question := []byte("request")
	if _, err := conn.Write(question); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, question); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}
