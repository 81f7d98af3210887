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
	defer runtime.UnlockOSThread()
	var here, there unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &here); err != nil {
		return fmt.Errorf("stat own namespace: %w", err)
	}
	if err := unix.Fstat(n.fd, &there); err != nil {
		return fmt.Errorf("stat namespace %s: %w", n.path, err)
	}
	if here.Dev == there.Dev && here.Ino == there.Ino {
		return f()
	}
	return n.Do(f)
}
