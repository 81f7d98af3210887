// Package dirlock locks folders, against other processes and goroutines. There is
// no file for it: who has the lock may remove the folder with all that is in it.
package dirlock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pause is how long Lock waits before it tries again.
const pause = 2 * time.Millisecond

// attempts is how often Lock makes a folder, which others may remove. One that can
// never be made looks the same, such as below a link that leads nowhere.
const attempts = 1000

// Lock makes a folder unless it is there, for its owner alone, waits until nobody
// else has locked it, and returns how to unlock it. A process that ends unlocks it
// as well. Lock fails when the context ends, with its error.
func Lock(ctx context.Context, dir string) (unlock func(), err error) {
	for made := 0; ; {
		unlock, err := Try(dir)
		switch {
		case err == nil:
			return unlock, nil
		case errors.Is(err, fs.ErrNotExist):
			made++
			if err := os.MkdirAll(dir, 0o700); err != nil && (made >= attempts || !goes(dir, err)) {
				return nil, err
			}
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s, which another process has locked: %w", dir, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// Try is Lock that does not wait and makes no folder: the error matches
// unix.EWOULDBLOCK if it is locked, and fs.ErrNotExist if it is not there.
func Try(dir string) (unlock func(), err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil && !isAt(fd, dir) {
		err = unix.ENOENT // who had the lock before has removed it
	}
	if err == unix.EINTR {
		err = unix.EWOULDBLOCK
	}
	if err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
	}
	return func() { unix.Close(fd) }, nil
}

// goes reports whether a folder could not be made because others make and remove
// it: then it is there, or was, or one above it is not any more.
func goes(dir string, err error) bool {
	if !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	info, err := os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir()
}

// isAt reports whether a descriptor is of what the path leads to.
func isAt(fd int, path string) bool {
	var open, there unix.Stat_t
	return unix.Fstat(fd, &open) == nil && unix.Stat(path, &there) == nil && open.Dev == there.Dev && open.Ino == there.Ino
}
