package trace

import (
	"context"
	"errors"
	"iter"

	"xentrace/internal/netdev"
)

// spaces are the network namespaces whose counters are read at one moment, each opened
// and read once: finding one may take a look at every process, and its counters are in one
// file. They are not kept open, which would keep them alive.
type spaces struct {
	opened  map[uint32]*openedSpace
	indexes map[uint32][]int // of the interfaces whose counters are read
}

type openedSpace struct {
	namespace *netdev.Namespace
	err       error // of opening it
	counters  map[int]netdev.Counters
}

// newSpaces are those of some interfaces. Counters of others can be read, one by one.
func newSpaces(interfaces iter.Seq[*watchedInterface]) spaces {
	s := spaces{make(map[uint32]*openedSpace), make(map[uint32][]int)}
	for w := range interfaces {
		s.indexes[w.Namespace] = append(s.indexes[w.Namespace], w.Index)
	}
	return s
}

func (s spaces) open(ctx context.Context, inum uint32) (*openedSpace, error) {
	if s.opened[inum] == nil {
		opened := &openedSpace{}
		if opened.namespace, opened.err = netdev.OpenNamespace(ctx, inum); opened.err == nil && len(s.indexes[inum]) > 1 {
			opened.counters = opened.namespace.CountersOf(s.indexes[inum])
		}
		s.opened[inum] = opened
	}
	return s.opened[inum], s.opened[inum].err
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
		if opened.namespace != nil {
			err = errors.Join(err, opened.namespace.Close())
		}
	}
	return err
}
