package netns

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Visit calls f on a thread that is in the namespace: the calling thread if it
// is there already, which saves the start of a thread, else one as for Do. So
// f must leave the thread as it is, and must not start goroutines that rely
// on it.
func (n *NS) Visit(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var here unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &here); err != nil {
		return fmt.Errorf("stat namespace of the thread: %w", err)
	}
	id, err := n.ID()
	if err != nil {
		return err
	}
	if id != (ID{Dev: uint64(here.Dev), Inode: here.Ino}) {
		return n.Do(f)
	}
	return f()
}
