package userstack

import "time"

const (
	// budgetInterval is the time in which all users together may cause budgetBytes to be
	// read, which takes some 10 % of a CPU.
	budgetInterval = time.Second
	budgetBytes    = 64 << 20
	// leastShares: a user alone does not get more than 1/leastShares of that.
	leastShares = 4
	// maxUsers bounds the table of users. Later ones share an entry.
	maxUsers = 1024
	// workOfFile is what opening a file counts as, in bytes read.
	workOfFile = 16 << 10
	// workOfMaps is what a byte of /proc/PID/maps counts as: the kernel makes some 80 MB/s.
	workOfMaps = 8
)

// otherUsers is the entry that users share when the table is full.
const otherUsers = ^uint32(0)

// A budget limits how much is read to name frames. Each user has the same share, so one
// whose processes have large files, or many mappings, delays no one else's names. A read
// that goes over the share counts against later intervals. Users can have subordinate UIDs,
// which count as users of their own: each makes the shares of the others smaller, never 0.
type budget struct {
	now   func() time.Time
	began time.Time      // of this interval
	used  map[uint32]int // bytes, by user
	last  int            // users of the last interval
}

func newBudget(now func() time.Time) *budget {
	return &budget{now: now, began: now(), used: make(map[uint32]int)}
}

// allows reports whether something may be read for a user.
func (b *budget) allows(user uint32) bool {
	b.renew()
	user = b.entry(user)
	if _, known := b.used[user]; !known {
		b.used[user] = 0
	}
	return b.used[user] < b.share()
}

func (b *budget) charge(user uint32, bytes int) { b.used[b.entry(user)] += bytes }

func (b *budget) entry(user uint32) uint32 {
	if _, known := b.used[user]; !known && len(b.used) >= maxUsers {
		return otherUsers
	}
	return user
}

func (b *budget) share() int {
	return budgetBytes / max(leastShares, len(b.used), b.last)
}

// renew begins a new interval when it is time. What a user is over the share stays.
func (b *budget) renew() {
	elapsed := b.now().Sub(b.began)
	if elapsed < budgetInterval {
		return
	}
	paid := b.share() * int(min(elapsed/budgetInterval, 1000))
	b.began, b.last = b.now(), len(b.used)
	for user, used := range b.used {
		if used <= paid {
			delete(b.used, user)
		} else {
			b.used[user] = used - paid
		}
	}
}
