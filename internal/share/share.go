// Package share divides a bounded table among users, so that one user's entries do not
// keep out those of others.
package share

// Counts is how many entries of a table each user has.
type Counts map[uint32]int

// Add notes an entry of a user.
func (c Counts) Add(user uint32) { c[user]++ }

// Remove notes that one is gone.
func (c Counts) Remove(user uint32) {
	if c[user]--; c[user] <= 0 {
		delete(c, user)
	}
}

// Yields returns whose entry a full table gives up for a new one of a user: that of the user
// who has the most, unless the new one would only change whose turn it is to have one more.
func (c Counts) Yields(user uint32) (from uint32, is bool) {
	from = user
	for other, n := range c {
		if n > c[from] {
			from = other
		}
	}
	return from, c[from] > c[user]+1
}
