package netns

import "runtime"

// Visit calls f on a thread that is in the namespace: the calling thread if it
// is there already, which saves the start of a thread, else one as for Do. So
// f must leave the thread as it is, and must not start goroutines that rely
// on it.
func (n *NS) Visit(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := Current()
	if err != nil {
		return err
	}
	defer here.Close()
	is, err := here.ID()
	if err != nil {
		return err
	}
	want, err := n.ID()
	if err != nil {
		return err
	}
	if is != want {
		return n.Do(f)
	}
	return f()
}
