package trace

import (
	"context"
	"errors"
	"iter"

	"xentrace/internal/netdev"
)

// spaces are the network namespaces whose counters are read at one moment, each opened
// and read once: finding one may take a look at every process, and its counters are in one
// file. They are not kept open, which would keep them alive, but for the process's own.
type spaces struct {
	home    *netdev.Namespace // the process's own; nil if it is not open
	opened  map[uint32]*openedSpace
	indexes map[uint32][]int // of the interfaces whose counters are read
}

type openedSpace struct {
	namespace *netdev.Namespace
	err       error // of opening it
	counters  map[int]netdev.Counters
}

// newSpaces are those of some interfaces. Counters of others can be read, one by one.
func newSpaces(home *netdev.Namespace, interfaces iter.Seq[*watchedInterface]) spaces {
	s := spaces{home, make(map[uint32]*openedSpace), make(map[uint32][]int)}
	for w := range interfaces {
		s.indexes[w.Namespace] = append(s.indexes[w.Namespace], w.Index)
	}
	return s
}

func (s spaces) open(ctx context.Context, inum uint32) (*openedSpace, error) {
	if s.opened[inum] == nil {
		opened := &openedSpace{}
		if opened.namespace, opened.err = s.find(ctx, inum); opened.err == nil && len(s.indexes[inum]) > 1 {
			opened.counters = opened.namespace.CountersOf(s.indexes[inum])
		}
		s.opened[inum] = opened
	}
	return s.opened[inum], s.opened[inum].err
}

func (s spaces) find(ctx context.Context, inum uint32) (*netdev.Namespace, error) {
	if s.home != nil && s.home.Inum() == inum {
		return s.home, nil
	}
	return netdev.OpenNamespace(ctx, inum)
}

func (o *openedSpace) countersOf(index int) (netdev.Counters, error) {
	if c, read := o.counters[index]; read {
		return c, nil
	}
	return o.namespace.Counters(index)
}

func (s spaces) close() error {
	var err error
	for _, opened := range s.opened {
		if opened.namespace != nil && opened.namespace != s.home {
			err = errors.Join(err, opened.namespace.Close())
		}
	}
	return err
}
