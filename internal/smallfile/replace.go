package smallfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Temp is the file that [Replace] writes before it has the name of path. Who
// lists the folder has to leave it out, and who removes path removes it too: a
// process that was killed has left it.
func Temp(path string) string { return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)) }

// Replace puts a file in the place of another one, or of none: whoever looks finds
// either whole. No two may replace the same file at a time. It does not wait for a
// disk, so a power failure may tear it.
func Replace(path string, content []byte, mode fs.FileMode) error {
	temp := Temp(path)
	err := Create(temp, content, mode)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp) // of which there may be a part; where nothing can be written there is none
	}
	return err
}

// ReplaceOnDisk is Replace that waits until the content is on the disk, gives the
// file exactly the mode, and may be called by several at a time. The error is a
// *fs.PathError about path: the same for who tries again, while the file that is
// written has another name each time.
func ReplaceOnDisk(path string, content []byte, mode fs.FileMode) error {
	err := replaceOnDisk(path, content, mode)
	var why syscall.Errno
	if errors.As(err, &why) {
		return &fs.PathError{Op: "replace", Path: path, Err: why}
	}
	return err
}

func replaceOnDisk(path string, content []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(Temp(path))+".*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close() //nolint:errcheck // it was closed before, if all went well
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
