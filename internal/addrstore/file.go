package addrstore

import (
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A file is an open file, by its descriptor. An os.File would cost six more
// system calls for each that is opened: the runtime tries to poll it.
type file int

// open opens a file as open(2) does. The error is an *fs.PathError.
func open(path string, flags int, mode uint32) (file, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return file(fd), wrap("open", path, err)
		}
	}
}

// ReadAt implements io.ReaderAt.
func (f file) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(int(f), p[n:], off+int64(n))
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return n, err
		}
		n += max(m, 0)
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (f file) WriteAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pwrite(int(f), p[n:], off+int64(n))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return n, err
		}
		n += max(m, 0)
	}
	return n, nil
}

func (f file) close() { unix.Close(int(f)) }

// lock locks the file as flock(2) does.
func (f file) lock(how int) error {
	for {
		if err := unix.Flock(int(f), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// readSmall returns the content of a file that is as small as a record, cut where
// it is larger. A pipe in its place is empty.
func readSmall(path string) ([]byte, error) {
	f, err := open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.close()
	buf := make([]byte, maxRecord)
	n, err := unix.Read(int(f), buf)
	return buf[:max(n, 0)], wrap("read", path, err)
}

func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
