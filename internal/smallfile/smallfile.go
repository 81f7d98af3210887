// Package smallfile reads and writes small files, most of them of kernel file
// systems: procfs and tmpfs, which never make one wait. For these it does without package os, whose files
// each are registered with Go's poller first, which costs more than the work.
package smallfile

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// maxLen is more than any of the files holds: the record of an attachment with
// thousands of ports has some hundred KiB.
const maxLen = 16 << 20

// Read returns the content of a file of less than 16 MiB. The error is a
// *fs.PathError, as of os.ReadFile.
func Read(path string) ([]byte, error) { return here().Read(path) }

// A Folder is opened once for several files in it.
type Folder struct {
	fd   int
	path string
}

// here is the folder that paths start from.
func here() Folder { return Folder{fd: unix.AT_FDCWD} }

// OpenFolder opens a folder, which has to be closed. The error is a *fs.PathError.
func OpenFolder(path string) (Folder, error) {
	fd, err := here().open(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	return Folder{fd, path + "/"}, err
}

// Close closes the folder.
func (f Folder) Close() error { return unix.Close(f.fd) }

// Read is [Read] of a file in the folder.
func (f Folder) Read(path string) ([]byte, error) {
	fd, err := f.open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var content []byte
	for chunk := make([]byte, 4096); len(content) < maxLen; {
		if len(content) > len(chunk) { // it is not so small
			chunk = make([]byte, 2*len(content))
		}
		n, err := unix.Read(fd, chunk)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: f.path + path, Err: err}
		case n == 0:
			return content, nil
		default:
			content = append(content, chunk[:n]...)
		}
	}
	return nil, &fs.PathError{Op: "read", Path: f.path + path, Err: unix.EFBIG}
}

// Write writes content to a file that is there, in one piece.
func Write(path string, content []byte) error { return here().Write(path, content) }

// Write is [Write] to a file in the folder.
func (f Folder) Write(path string, content []byte) error {
	return f.write(path, content, unix.O_WRONLY, 0)
}

// Create writes content to a file, which is made or emptied first.
func Create(path string, content []byte, mode fs.FileMode) error {
	return here().write(path, content, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, mode)
}

func (f Folder) write(path string, content []byte, flags int, mode fs.FileMode) error {
	fd, err := f.open(path, flags, mode)
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, content)
	if err == nil && n < len(content) {
		err = unix.ENOSPC
	}
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: f.path + path, Err: err}
	}
	return nil
}

func (f Folder) open(path string, flags int, mode fs.FileMode) (int, error) {
	for {
		fd, err := unix.Openat(f.fd, path, flags|unix.O_CLOEXEC, uint32(mode.Perm()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: f.path + path, Err: err}
		}
		return fd, nil
	}
}
