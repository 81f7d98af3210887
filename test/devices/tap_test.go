package devices_test

import (
	"os"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"golang.org/x/sys/unix"
)

// listen opens the tap device eth0 of a namespace once for each queue, until the
// test ends, and returns what is sent by it: Ethernet frames.
func listen(t *testing.T, ns string, queues int) <-chan []byte {
	t.Helper()
	frames := make(chan []byte, 100)
	for range queues {
		fd := -1
		err := host.In(t, ns, func() (err error) {
			if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
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
		queue := os.NewFile(uintptr(fd), "tap")
		t.Cleanup(func() { queue.Close() })
		go func() {
			for {
				frame := make([]byte, 2048)
				n, err := queue.Read(frame)
				if err != nil {
					return // closed
				}
				select {
				case frames <- frame[:n]:
				default: // nobody looks any more
				}
			}
		}()
	}
	return frames
}
