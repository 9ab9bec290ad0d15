package userstack

import (
	"testing"
	"time"
)

func TestBudgetIsSharedByUsers(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(func() time.Time { return now })
	spend := func(user uint32) int { // in pieces of 64 KiB
		pieces := 0
		for b.allows(user) {
			b.charge(user, 64<<10)
			pieces++
		}
		return pieces
	}
	const share = budgetBytes / leastShares / (64 << 10)
	if got := spend(1000); got != share {
		t.Errorf("a user alone reads %d pieces, want %d", got, share)
	}
	if got := spend(1001); got != share {
		t.Errorf("a second user reads %d pieces, want %d", got, share)
	}
	b.charge(1000, budgetBytes/leastShares) // a second share, in debt
	for interval, want := range []int{0, share, share} {
		now = now.Add(budgetInterval)
		if got := spend(1000); got != want {
			t.Errorf("interval %d: the user in debt reads %d pieces, want %d", interval, got, want)
		}
	}
	now = now.Add(2 * budgetInterval)
	for user := range uint32(64) {
		spend(user)
	}
	now = now.Add(budgetInterval)
	if got, want := spend(1001), budgetBytes/64/(64<<10); got != want {
		t.Errorf("after an interval of 64 users, one reads %d pieces, want %d", got, want)
	}
}

func TestBudgetTableIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(func() time.Time { return now })
	for user := range uint32(10 * maxUsers) {
		b.allows(user)
		b.charge(user, 1)
	}
	if len(b.used) > maxUsers+1 {
		t.Errorf("%d entries, limit is %d", len(b.used), maxUsers+1)
	}
	if used := b.used[otherUsers]; used != 9*maxUsers {
		t.Errorf("users over the limit share %d bytes, want %d", used, 9*maxUsers)
	}
}
