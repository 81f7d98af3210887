package devices_test

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"golang.org/x/sys/unix"
)

// listen opens the tap device eth0 of a namespace once for each queue, and
// returns what is sent by it: Ethernet frames, and nil from each queue that
// is silent for two seconds.
func listen(t *testing.T, ns string, queues int) <-chan []byte {
	t.Helper()
	frames := make(chan []byte, 100)
	for range queues {
		fd := -1
		err := host.In(t, ns, func() (err error) {
			if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
				return err
			}
			request, err := unix.NewIfreq("eth0")
			if err != nil {
				return err
			}
			flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
			if queues > 1 {
				flags |= unix.IFF_MULTI_QUEUE
			}
			request.SetUint16(flags)
			return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		})
		if err != nil {
			t.Fatalf("open the tap device: %v", err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
				n, err := unix.Poll(ready, 2000)
				if err == unix.EINTR {
					continue
				}
				frame := make([]byte, 2048)
				if n > 0 {
					n, err = unix.Read(fd, frame)
				}
				if n <= 0 || err != nil {
					frames <- nil
					return
				}
				frames <- frame[:n]
			}
		}()
		t.Cleanup(func() { <-done; unix.Close(fd) })
	}
	return frames
}
