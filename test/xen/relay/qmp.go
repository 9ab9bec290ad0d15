package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// qmp is a connection to QEMU's machine protocol.
type qmp struct {
	conn net.Conn
	in   *json.Decoder
}

// dialQMP connects to the socket that a QEMU just started is about to open.
func dialQMP(ctx context.Context, path string) (*qmp, error) {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			q := &qmp{conn: conn, in: json.NewDecoder(conn)}
			if err = q.command("qmp_capabilities", nil, nil); err == nil {
				return q, nil
			}
			return nil, errors.Join(err, conn.Close())
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("qmp: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// command runs one command and fills in result from what it returns.
func (q *qmp) command(name string, arguments, result any) error {
	request := map[string]any{"execute": name}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return fmt.Errorf("qmp: %s: %w", name, err)
	}
	for {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := q.in.Decode(&answer); err != nil {
			return fmt.Errorf("qmp: %s: %w", name, err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("qmp: %s: %s", name, answer.Error.Desc)
		case answer.Return == nil: // the greeting, or an event
		case result == nil:
			return nil
		default:
			return json.Unmarshal(answer.Return, result)
		}
	}
}

// ignoreShared leaves the memory out of the saved state: it is a file already.
func (q *qmp) ignoreShared() error {
	capability := map[string]any{"capability": "x-ignore-shared", "state": true}
	return q.command("migrate-set-capabilities", map[string]any{"capabilities": []any{capability}}, nil)
}

// save stops the machine and writes its state, without the memory, to a file.
func (q *qmp) save(ctx context.Context, path string) error {
	if err := q.ignoreShared(); err != nil {
		return err
	}
	if err := q.command("stop", nil, nil); err != nil {
		return err
	}
	if err := q.command("migrate", map[string]any{"uri": "exec:cat >'" + path + "'"}, nil); err != nil {
		return err
	}
	return q.until(ctx, "query-migrate", "completed", "failed")
}

// restore loads a state that save wrote, and lets the machine run.
func (q *qmp) restore(ctx context.Context, path string) error {
	if err := q.ignoreShared(); err != nil {
		return err
	}
	if err := q.command("migrate-incoming", map[string]any{"uri": "exec:cat '" + path + "'"}, nil); err != nil {
		return err
	}
	if err := q.until(ctx, "query-status", "paused", "internal-error"); err != nil {
		return err
	}
	return q.command("cont", nil, nil)
}

// until asks for a status until it is good or bad.
func (q *qmp) until(ctx context.Context, query, good, bad string) error {
	for {
		var answer struct{ Status string }
		if err := q.command(query, nil, &answer); err != nil {
			return err
		}
		switch answer.Status {
		case good:
			return nil
		case bad:
			return fmt.Errorf("qmp: %s: %s", query, bad)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("qmp: %s: %s: %w", query, answer.Status, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (q *qmp) close() { _ = q.conn.Close() }
