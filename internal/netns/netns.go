// Package netns refers to network namespaces and runs code inside them.
package netns

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone means that a path does not lead to a network namespace any more:
// nothing is there, or what is there is something else.
var ErrGone = errors.New("no network namespace there")

// A GoneError matches ErrGone.
type GoneError struct {
	Path  string
	Found string // what is there instead, "a regular file"; empty for nothing
}

// Error names the path.
func (e *GoneError) Error() string {
	s := fmt.Sprintf("open namespace %s: %v", e.Path, ErrGone)
	if e.Found != "" {
		s += ", but " + e.Found
	}
	return s
}

// Is reports whether target is ErrGone.
func (e *GoneError) Is(target error) bool { return target == ErrGone }

// An NS is an open network namespace. It stays alive while open.
// It holds a plain descriptor: an os.File would start Go's poller for what
// can't be polled.
type NS struct {
	fd   int
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
// /proc/PID/ns/net. The error is a *GoneError if there is none.
func Open(path string) (*NS, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ESRCH:
		return nil, &GoneError{Path: path}
	case unix.ENXIO: // as /proc/PID/fd/N may lead to
		return nil, &GoneError{path, "a socket, or a device that is missing"}
	case unix.ELOOP:
		return nil, &GoneError{path, "links that lead to each other"}
	default:
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	// A bind mount that is gone leaves an empty file behind, which answers
	// with ENOTTY.
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		found := foundAt(fd, err == nil)
		unix.Close(fd)
		return nil, &GoneError{path, found}
	}
	return &NS{fd: fd, path: path}, nil
}

// foundAt says what a descriptor is of that is no network namespace.
func foundAt(fd int, namespace bool) string {
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case namespace:
		return "a namespace of another kind"
	case err != nil:
		return "something else"
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return "a folder"
	case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0:
		return "an empty file, as is left where a namespace was mounted"
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		return "a regular file"
	}
	return "a device, a socket or a pipe"
}

// Current opens the namespace of the calling thread.
func Current() (*NS, error) { return Open("/proc/thread-self/ns/net") }

// CurrentID returns what identifies the namespace of the calling thread, without
// a cookie.
func CurrentID() (ID, error) {
	const path = "/proc/thread-self/ns/net"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ID{}, fmt.Errorf("stat namespace %s: %w", path, err)
	}
	return ID{Dev: uint64(st.Dev), Inode: st.Ino}, nil
}

// Path returns the path by which the namespace was opened.
func (n *NS) Path() string { return n.path }

// FD returns the descriptor, valid until Close.
func (n *NS) FD() int { return n.fd }

// ID returns what identifies the namespace, without a cookie.
func (n *NS) ID() (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.FD(), &st); err != nil {
		return ID{}, fmt.Errorf("stat namespace %s: %w", n.path, err)
	}
	return ID{Dev: uint64(st.Dev), Inode: st.Ino}, nil
}

// lockPause is how long Lock waits before it tries again.
const lockPause = 5 * time.Millisecond

// Lock waits until nobody else has locked the namespace, by whatever path, and
// returns how to unlock it. A process that ends unlocks it as well. It fails when
// the context ends: a process inside, which can lock its own namespace, must not
// keep us for ever.
func (n *NS) Lock(ctx context.Context) (unlock func() error, err error) {
	for {
		err := unix.Flock(n.fd, unix.LOCK_EX|unix.LOCK_NB)
		switch err {
		case nil:
			return func() error { return unix.Flock(n.fd, unix.LOCK_UN) }, nil
		case unix.EWOULDBLOCK, unix.EINTR:
		default:
			return nil, fmt.Errorf("lock namespace %s: %w", n.path, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock namespace %s, which another process has locked: %w", n.path, context.Cause(ctx))
		case <-time.After(lockPause):
		}
	}
}

// Close releases the descriptor.
func (n *NS) Close() error { return unix.Close(n.fd) }

// Do calls f with the calling thread in the namespace. f must not start
// goroutines that rely on it.
//
// A thread that can't return, which takes a change of privileges in between, is
// never given back: Do panics with the goroutine locked to it, and the thread
// ends with the goroutine.
func (n *NS) Do(f func() error) error {
	runtime.LockOSThread()
	err := n.enter(f)
	runtime.UnlockOSThread() // not deferred: not after a panic in leave
	return err
}

// enter does it on a thread that is locked.
func (n *NS) enter(f func() error) error {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open own namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", n.path, err)
	}
	defer leave(home)
	return f()
}

func leave(home int) {
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		panic(fmt.Sprintf("return to own namespace: %v", err))
	}
}
