package share

import (
	"maps"
	"testing"
)

func TestUsersGetEqualShares(t *testing.T) {
	const limit = 12
	c, entries := Counts{}, 0
	add := func(user uint32) {
		if entries == limit {
			from, is := c.Yields(user)
			if !is {
				return
			}
			c.Remove(from)
			entries--
		}
		c.Add(user)
		entries++
	}
	for range 100 {
		add(1)
	}
	if !maps.Equal(c, Counts{1: 12}) {
		t.Errorf("%v, want all for one user", c)
	}
	for _, user := range []uint32{2, 2, 2, 2, 3, 1, 1, 1} {
		add(user)
	}
	if !maps.Equal(c, Counts{1: 7, 2: 4, 3: 1}) {
		t.Errorf("%v, want room for what the others asked for", c)
	}
	for range 100 {
		for user := range uint32(4) {
			add(user)
		}
	}
	if !maps.Equal(c, Counts{0: 3, 1: 3, 2: 3, 3: 3}) {
		t.Errorf("%v, want 3 for each of 4 users", c)
	}
	c.Remove(3)
	if c.Remove(9); c[3] != 2 || len(c) != 4 {
		t.Errorf("%v after one of user 3 is gone", c)
	}
}
