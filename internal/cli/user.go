package cli

import (
	"errors"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"xentrace/internal/kernel"
)

// userFlag chooses the user that a command becomes once attached.
func userFlag(c *cobra.Command, to *kernel.User) {
	initial := strconv.Itoa(to.UID)
	if to.UID == 0 {
		initial = "root"
	}
	parsed(c, to, "user", "", "USER", initial, "user to run as once attached", parseUser)
}

// parseUser reads a name or a uid. A uid without an entry in /etc/passwd has the gid of the
// same number.
func parseUser(text string) (kernel.User, error) {
	found, err := user.Lookup(text)
	if err != nil {
		found, err = user.LookupId(text)
	}
	if err != nil {
		const most = 1<<32 - 2 // the last one means "do not change"
		uid, err := strconv.ParseUint(text, 10, 32)
		if err != nil || uid > most {
			return kernel.User{}, errors.New("no such user")
		}
		return kernel.User{UID: int(uid), GID: int(uid)}, nil
	}
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return kernel.User{}, errors.New("the user has no number")
	}
	gid, err := strconv.Atoi(found.Gid)
	return kernel.User{UID: uid, GID: gid}, err
}
