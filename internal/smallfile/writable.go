package smallfile

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Writable fails unless a file could be made and filled in a folder. If that is
// missing, it is about the first folder above that is there, where it would be made.
// It leaves no trace. The error is a *fs.PathError.
func Writable(dir string) error {
	err := writable(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		err = writable(dir)
	}
	return err
}

func writable(dir string) error {
	fd, err := here().open(dir, unix.O_TMPFILE|unix.O_WRONLY, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		// Some file systems have no files without a name.
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			return &fs.PathError{Op: "access", Path: dir, Err: err}
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte{0}); err != nil {
		return &fs.PathError{Op: "write to a file in", Path: dir, Err: err}
	}
	return nil
}
