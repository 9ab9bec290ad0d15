package trace

import (
	"errors"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/test/need"
)

// Before it is loaded nothing is known and nothing fails; what was asked for is
// followed from then on, and the hook is there as long as any is.
func TestConnectionsAreFollowed(t *testing.T) {
	need.Root(t, "to load BPF programs")
	c := newConnections(time.Millisecond)
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	one, two := event.Socket{Address: 8, Hash: 1}, event.Socket{Address: 16, Hash: 2}
	if err := c.Follow(one); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ask([]event.Socket{one}); !errors.Is(err, event.ErrNotLoaded) {
		t.Errorf("error %v before it is loaded", err)
	}
	if _, err := c.Endings(); !errors.Is(err, event.ErrNotLoaded) {
		t.Errorf("error %v before it is loaded", err)
	}
	if err := c.load(kernel.NewTypes()); err != nil {
		t.Fatal(err)
	}
	if c.hook == nil {
		t.Error("no hook, though a connection is followed")
	}
	if err := c.Follow(two); err != nil {
		t.Fatal(err)
	}
	c.Forget(one)
	if n, err := c.Endings(); n != 0 || err != nil || c.hook == nil {
		t.Errorf("%d endings, error %v, hook %v: one is still followed", n, err, c.hook)
	}
	c.Forget(two)
	c.Forget(two)
	if c.hook != nil {
		t.Error("the hook is still there, though nothing is followed")
	}
}

// Where no socket is, the connection is over, and how it stood is not known. More are
// asked about than the BPF programs answers at once.
func TestConnectionsThatAreNotThere(t *testing.T) {
	need.Root(t, "to load BPF programs")
	c := newConnections(time.Millisecond)
	defer func() { _ = c.close() }()
	if err := c.load(kernel.NewTypes()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 64, 65, 200} {
		sockets := make([]event.Socket, n)
		for i := range sockets {
			sockets[i] = event.Socket{Address: 8 * uint64(i+1), Hash: 1}
		}
		answers, err := c.Ask(sockets)
		if err != nil || len(answers) != n {
			t.Fatalf("%d answers to %d questions, error %v", len(answers), n, err)
		}
		for i, a := range answers {
			if !a.Ended || a.Known || a.TCP != (event.TCP{}) || time.Since(a.Time).Abs() > time.Minute {
				t.Fatalf("answer %d of %d: %+v", i, n, a)
			}
		}
	}
}
