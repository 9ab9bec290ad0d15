package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"xentrace/internal/rocket"
)

// A sender has a socket of its own for each datagram, so that records of two are
// never taken for each other's.
type sender interface {
	Cookie() (uint64, error)
	Local() netip.AddrPort
	Send(context.Context) error
	Close() error
}

type senders interface {
	// many sends a datagram that needs that many slots.
	many(ctx context.Context, slots int) (sender, error)
	// small sends a datagram of a few bytes.
	small(ctx context.Context) (sender, error)
	// head sends headBurst datagrams that are all head, each of which may straddle a
	// page boundary. The next ones' lie elsewhere.
	head(ctx context.Context) (sender, error)
	close() error
}

type rockets struct {
	remote    netip.AddrPort
	opts      rocket.Options
	length    int // of a head's payload, 0 until it is known
	smallHead int // as in [Options]
	held      []*rocket.Held
}

func newRockets(o *Options) *rockets {
	return &rockets{remote: o.Destination.Address, opts: rocket.Options{Device: o.Interface.Name}, smallHead: o.SmallHead}
}

type oneUDP struct{ *rocket.UDP }

func (o oneUDP) Send(ctx context.Context) error {
	_, err := o.UDP.Send(ctx)
	return err
}

func (r *rockets) many(ctx context.Context, slots int) (sender, error) {
	opts := r.opts
	opts.Slots = slots
	u, err := rocket.NewUDP(ctx, r.remote, opts)
	if err != nil {
		return nil, err
	}
	return oneUDP{u}, nil
}

// headBurst is how many small datagrams are one attempt: of the heads one in 20 to 60
// straddles a page boundary, by the geometry of their slabs.
const headBurst = 8

type plain struct {
	*rocket.Datagrams
	n, length int
}

func (o plain) Send(ctx context.Context) error { return o.Datagrams.Send(ctx, o.n, o.length) }

func (r *rockets) plain(ctx context.Context, n, length int) (sender, error) {
	d, err := rocket.NewDatagrams(ctx, r.remote, r.opts)
	if err != nil {
		return nil, err
	}
	return plain{d, n, length}, nil
}

func (r *rockets) small(ctx context.Context) (sender, error) {
	return r.plain(ctx, 1, rocket.HeaderLength)
}

// head takes the places of the heads before away by holding other datagrams there.
func (r *rockets) head(ctx context.Context) (sender, error) {
	if r.length == 0 {
		if r.smallHead == 0 {
			r.smallHead = SmallHeadSize()
		}
		r.length = headPayload(r.smallHead)
	}
	held, err := rocket.Hold(ctx, headBurst, r.length)
	if err != nil {
		return nil, err
	}
	r.held = append(r.held, held)
	return r.plain(ctx, headBurst, r.length)
}

func (r *rockets) close() error {
	var errs []error
	for _, h := range r.held {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// defaultHeadSize is the size of small heads on most kernels: from 6.12.17 and 6.14 on,
// with 17 fragments.
const defaultHeadSize = 704

// headPayload is the longest UDP payload for sure to fit a small head of that size,
// which also holds the headers (28 bytes and 31 of alignment, IPv6 20 more) and, behind
// them, struct skb_shared_info (320 with 17 fragments). The longer it is the more of the
// heads straddle a boundary.
func headPayload(size int) int { return min(max(size-404, rocket.HeaderLength), 340) }

// SmallHeadSize reads the size of small heads in bytes: objects of a slab cache of their
// own since 6.3, whatever cache that is merged with. Only root may read it; others get the
// size that most kernels have.
func SmallHeadSize() int { return smallHeadSize("/sys/kernel/slab/skbuff_small_head/slab_size") }

func smallHeadSize(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return defaultHeadSize
	}
	size, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return defaultHeadSize
	}
	return size
}

// describeSend reports why a datagram could not be sent, where more is known than errno.
func describeSend(err error) string {
	switch {
	case errors.Is(err, rocket.ErrSinglePages):
		return "this machine cannot make such a datagram now: " + rocket.ErrSinglePages.Error()
	case errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("the kernel did not let the datagram be sent, as a packet filter may want it (%v)", err)
	}
	return fmt.Sprintf("the datagram could not be sent: %v", err)
}
