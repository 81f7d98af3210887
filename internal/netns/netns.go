// Package netns refers to network namespaces and runs code inside them.
package netns

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrGone means that a path does not lead to a network namespace any more:
// nothing is there, or what is there is something else.
var ErrGone = errors.New("no network namespace there")

// An NS is an open network namespace. It stays alive while open.
// It holds a plain descriptor: an os.File would start Go's poller for what
// can't be polled.
type NS struct {
	fd   int
	path string

	mu     sync.Mutex
	inside chan func(error) // to the thread of Do; nil before the first call
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
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == unix.ENOENT || err == unix.ESRCH {
		return nil, fmt.Errorf("open namespace %s: %w", path, errors.Join(ErrGone, err))
	}
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	// A bind mount that is gone leaves an empty file behind, which answers
	// with ENOTTY.
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		unix.Close(fd)
		return nil, fmt.Errorf("open namespace %s: %w", path, ErrGone)
	}
	return &NS{fd: fd, path: path}, nil
}

// Current opens the namespace of the calling thread.
func Current() (*NS, error) { return Open("/proc/thread-self/ns/net") }

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

// Close releases the descriptor and ends the thread of Do. It is called once.
func (n *NS) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inside != nil {
		close(n.inside)
		n.inside = nil
	}
	return unix.Close(n.fd)
}

// Do calls f on a thread that is in the namespace, one call at a time. The
// thread is the same for all calls and ends with Close, so that no other code
// can find itself in the namespace; f must not start goroutines that rely on
// it, nor call Do.
func (n *NS) Do(f func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inside == nil {
		n.inside = make(chan func(error))
		go n.serve(n.inside)
	}
	done := make(chan error, 1)
	n.inside <- func(entered error) {
		if entered != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.path, entered)
			return
		}
		done <- f()
	}
	return <-done
}

// serve calls what it is sent within the namespace.
func (n *NS) serve(calls <-chan func(error)) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The process's first thread can't end, and would hold the namespace
		// for as long as the process lives. Keep it busy while another goes.
		defer runtime.UnlockOSThread()
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.serve(calls)
		}()
		<-done
		return
	}
	entered := unix.Setns(n.fd, unix.CLONE_NEWNET)
	for call := range calls {
		call(entered)
	}
}
