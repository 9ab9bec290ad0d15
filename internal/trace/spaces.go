package trace

import (
	"context"
	"errors"

	"xentrace/internal/netdev"
)

// spaces are the network namespaces whose counters are read at one moment, each opened
// once: finding one may take a look at every process. They are not kept open, which would
// keep them alive.
type spaces map[uint32]openedSpace

type openedSpace struct {
	namespace *netdev.Namespace
	err       error // of opening it
}

func (s spaces) open(ctx context.Context, inum uint32) (*netdev.Namespace, error) {
	opened, known := s[inum]
	if !known {
		opened.namespace, opened.err = netdev.OpenNamespace(ctx, inum)
		s[inum] = opened
	}
	return opened.namespace, opened.err
}

func (s spaces) close() error {
	var err error
	for _, opened := range s {
		if opened.namespace != nil {
			err = errors.Join(err, opened.namespace.Close())
		}
	}
	return err
}
