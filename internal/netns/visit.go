package netns

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Visit calls f on a thread that is in the namespace: the calling thread if it
// is there already, which saves the start of a thread, else as Do does. So f
// must leave the thread as it is, and must not start goroutines that rely on
// it.
func (n *NS) Visit(f func() error) error {
	runtime.LockOSThread()
	there, err := n.entered()
	if err == nil && there {
		defer runtime.UnlockOSThread()
		return f()
	}
	runtime.UnlockOSThread() // not to wait with a locked thread
	if err != nil {
		return err
	}
	return n.Do(f)
}

// entered reports whether the calling thread is in the namespace.
func (n *NS) entered() (bool, error) {
	var here, there unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &here); err != nil {
		return false, fmt.Errorf("stat own namespace: %w", err)
	}
	if err := unix.Fstat(n.fd, &there); err != nil {
		return false, fmt.Errorf("stat namespace %s: %w", n.path, err)
	}
	return here.Dev == there.Dev && here.Ino == there.Ino, nil
}
