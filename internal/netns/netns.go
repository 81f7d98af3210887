// Package netns refers to network namespaces and runs code inside them.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrGone means that a path does not lead to a network namespace any more:
// nothing is there, or what is there is something else.
var ErrGone = errors.New("no network namespace there")

// An NS is an open network namespace. It stays alive while open.
type NS struct {
	file *os.File
	path string
}

// An ID identifies a namespace while it lives: the device and inode of its
// file. An inode is used again after the namespace is gone; a cookie is not,
// until the machine boots.
type ID struct {
	Dev    uint64 `json:"dev"`
	Inode  uint64 `json:"inode"`
	Cookie uint64 `json:"cookie,omitempty"` // of a socket in it; 0 if unknown
}

// Open opens the namespace at path, such as /run/netns/NAME or
// /proc/PID/ns/net. The error matches ErrGone if there is none.
func Open(path string) (*NS, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("open namespace %s: %w", path, errors.Join(ErrGone, err))
	}
	if err != nil {
		return nil, fmt.Errorf("open namespace: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &st); err != nil {
		file.Close()
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	// A bind mount that is gone leaves an empty file on a tmpfs behind.
	if st.Type != unix.NSFS_MAGIC && st.Type != unix.PROC_SUPER_MAGIC {
		file.Close()
		return nil, fmt.Errorf("open namespace %s: %w", path, ErrGone)
	}
	return &NS{file: file, path: path}, nil
}

// Current opens the namespace of the calling thread.
func Current() (*NS, error) { return Open("/proc/thread-self/ns/net") }

// Path returns the path by which the namespace was opened.
func (n *NS) Path() string { return n.path }

// FD returns the descriptor, valid until Close.
func (n *NS) FD() int { return int(n.file.Fd()) }

// ID returns what identifies the namespace, without a cookie.
func (n *NS) ID() (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.FD(), &st); err != nil {
		return ID{}, fmt.Errorf("stat namespace %s: %w", n.path, err)
	}
	return ID{Dev: uint64(st.Dev), Inode: st.Ino}, nil
}

// Close releases the descriptor.
func (n *NS) Close() error { return n.file.Close() }

// Do calls f on a thread that is in the namespace. The thread is thrown away
// afterwards, so that no other code can find itself in the namespace, whatever
// f does; f must not start goroutines that rely on it.
func (n *NS) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.path, err)
			return
		}
		done <- f()
	}()
	return <-done
}
