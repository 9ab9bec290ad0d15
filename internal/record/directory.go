package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound a recording directory.
type Limits struct {
	MaxBytes int64         // of everything in the directory
	MaxAge   time.Duration // of a segment since its last write; 0: no limit
}

// MinBytes is the least MaxBytes: two segments of the smallest size.
const MinBytes = 1 << 20

const (
	segmentTime = time.Hour // until a segment is finished
	segments    = 16        // of this size fill the directory
	maxSegment  = 64 << 20

	lockName = "lock"

	// reserve is left free on the file system: writing pauses before it is full.
	reserve = 16 << 20

	// lookAgain is when sizes and ages are read anew: others may write there, too.
	lookAgain = time.Minute
)

// A directory is a recording of segments. Older ones are deleted for newer ones.
type directory struct {
	path     string
	limits   Limits
	uid, gid int // who owns it

	root    *os.Root // stays usable when privileges are dropped
	lock    *os.File
	active  *storedFile
	opened  time.Time // the active segment
	number  int       // of the last segment
	written int       // segments of this run

	finished []segment // oldest first
	others   int64     // bytes of what is no segment
	looked   time.Time
}

type segment struct {
	name   string
	number int
	bytes  int64
	last   time.Time // written
}

// OpenDirectory opens a directory for recording, and makes it if it is not there. As root it
// gives the directory and its segments to the user that will write them. A second recorder
// on it is refused.
func OpenDirectory(path string, limits Limits, uid, gid int) (Store, error) {
	d := &directory{path: path, limits: limits, uid: uid, gid: gid}
	if err := d.open(); err != nil {
		return nil, fmt.Errorf("recording %s: %w", path, err)
	}
	return d, nil
}

func (d *directory) open() (err error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return fmt.Errorf("cannot make the directory: %w", plain(err))
	}
	if d.root, err = os.OpenRoot(d.path); err != nil {
		return plain(err)
	}
	for _, step := range []func() error{d.takeLock, d.look, d.give} {
		if err := step(); err != nil {
			return errors.Join(err, d.release())
		}
	}
	for _, s := range d.finished {
		d.number = max(d.number, s.number)
	}
	return nil
}

func (d *directory) takeLock() (err error) {
	if d.lock, err = d.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return plain(err)
	}
	switch err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return errors.New("another xentrace records there; choose another directory")
	case err != nil:
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// give has the user own what is written. What others may have put there is not given away: a
// directory that is in use for something else, as behind a symbolic link, or a hard link to
// another file.
func (d *directory) give() error {
	if os.Geteuid() != 0 || d.uid == 0 {
		return nil
	}
	info, err := d.root.Stat(".")
	if err != nil {
		return plain(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != d.uid && (owner != 0 || d.others > 0) {
		return fmt.Errorf("directory belongs to uid %d and is not only for recordings; chown it to uid %d, or choose another directory", owner, d.uid)
	}
	names := []string{".", lockName}
	for _, s := range d.finished {
		names = append(names, s.name)
	}
	for _, name := range names {
		if err := d.giveOne(name); err != nil {
			return fmt.Errorf("cannot give %s to uid %d: %w", name, d.uid, plain(err))
		}
	}
	return nil
}

// giveOne changes the owner of the directory or of a file in it. The file is held open, so
// that it is the one that was looked at.
func (d *directory) giveOne(name string) error {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only its owner changes
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if stat := info.Sys().(*syscall.Stat_t); !info.IsDir() && (!info.Mode().IsRegular() || stat.Nlink != 1) {
		return errors.New("not a file of its own")
	}
	return f.Chown(d.uid, d.gid)
}

func (d *directory) release() error {
	var failed []error
	if d.lock != nil {
		failed = append(failed, d.lock.Close())
	}
	if d.root != nil {
		failed = append(failed, d.root.Close())
	}
	d.lock, d.root = nil, nil
	return errors.Join(failed...)
}

// look reads what is in the directory.
func (d *directory) look() error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return plain(err)
	}
	d.finished, d.others, d.looked = nil, 0, time.Now()
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return plain(err)
		}
		n, isSegment := segmentNumber(entry.Name())
		switch {
		case d.active != nil && entry.Name() == d.active.name:
		case isSegment && info.Mode().IsRegular():
			d.finished = append(d.finished, segment{entry.Name(), n, info.Size(), info.ModTime()})
		default:
			d.others += info.Size()
		}
	}
	slices.SortFunc(d.finished, func(a, b segment) int { return a.number - b.number })
	return nil
}

// write appends lines to the active segment, or to a new one that starts with a start.
func (d *directory) write(lines []byte, start func(segment int) []byte) error {
	if err := d.ready(); err != nil {
		return err
	}
	var stored []byte
	if d.active != nil {
		stored = d.active.stored(lines)
		if d.active.size+int64(len(stored)) > d.segmentBytes() || time.Since(d.opened) >= segmentTime {
			d.finish()
		}
	}
	if d.active == nil {
		if err := d.begin(); err != nil {
			return err
		}
		stored = d.active.stored(slices.Concat(start(d.written), lines))
	}
	if err := d.makeRoom(int64(len(stored))); err != nil {
		return err
	}
	err := d.active.append(stored)
	if err != nil && d.active.size == 0 {
		d.discard()
	} else if errors.Is(err, errRemoved) || d.active.suspect {
		d.finish()
	}
	return err
}

// ready opens the directory again if it was removed, and now and then looks at what is there.
func (d *directory) ready() error {
	if d.root != nil {
		var err error
		if time.Since(d.looked) >= lookAgain {
			err = d.look()
		}
		if _, statErr := d.root.Stat(lockName); err == nil && statErr == nil {
			return d.age()
		}
		d.finish()
		_ = d.release() // it was removed, or may not be read any more
	}
	return d.open()
}

func (d *directory) segmentBytes() int64 { return min(d.limits.MaxBytes/segments, maxSegment) }

// begin makes the next segment.
func (d *directory) begin() error {
	now := time.Now()
	name := segmentName(d.number+1, now)
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return plain(err)
	}
	stored, err := newStoredFile(f, name)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.active, d.opened, d.number, d.written = stored, now, d.number+1, d.written+1
	return nil
}

// finish closes the active segment.
func (d *directory) finish() {
	if d.active == nil {
		return
	}
	_ = d.active.close() // it is synced
	d.finished = append(d.finished, segment{d.active.name, d.number, d.active.size, time.Now()})
	d.active = nil
}

// discard removes a segment into which nothing could be written.
func (d *directory) discard() {
	_ = d.active.close()
	_ = d.root.Remove(d.active.name) // an empty segment does no harm
	d.active, d.number, d.written = nil, d.number-1, d.written-1
}

// makeRoom deletes the oldest segments until bytes more are within the limit, and leaves
// the file system its reserve.
func (d *directory) makeRoom(bytes int64) error {
	for d.size()+bytes > d.limits.MaxBytes {
		if len(d.finished) == 0 {
			return fmt.Errorf("other files in the directory use %d of %d bytes; remove them or raise --max-size", d.others, d.limits.MaxBytes)
		}
		if err := d.deleteOldest(); err != nil {
			return err
		}
	}
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(d.active.f.Fd()), &stat); err == nil && int64(stat.Bavail)*stat.Bsize < min(reserve, int64(stat.Blocks)*stat.Bsize/20)+bytes {
		return errors.New("file system is nearly full; free space on it")
	}
	return nil
}

func (d *directory) size() int64 {
	size := d.others
	if d.active != nil {
		size += d.active.size
	}
	for _, s := range d.finished {
		size += s.bytes
	}
	return size
}

func (d *directory) deleteOldest() error {
	err := d.root.Remove(d.finished[0].name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot delete the oldest segment: %w", plain(err))
	}
	d.finished = d.finished[1:]
	return nil
}

// age deletes segments that are too old.
func (d *directory) age() error {
	if d.limits.MaxAge <= 0 {
		return nil
	}
	for len(d.finished) > 0 && time.Since(d.finished[0].last) > d.limits.MaxAge {
		if err := d.deleteOldest(); err != nil {
			return err
		}
	}
	return nil
}

func (d *directory) close() error {
	d.finish()
	return d.release()
}
