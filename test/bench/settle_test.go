package bench

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pause is given to workers of the kernel between two measurements, after a
// grace period of RCU: those of nftables wait for one more themselves.
const pause = 20 * time.Millisecond

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

// settle waits until the kernel has done what the measurement before has left
// to it, so that the next one doesn't wait for that.
func settle(t testing.TB) {
	t.Helper()
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		t.Fatalf("wait for a grace period: membarrier: %v", errno)
	}
	time.Sleep(pause)
}

// hostLinks counts the links of the host. It looks without a process, which would
// give what is still there time to go.
func hostLinks(t testing.TB) int {
	t.Helper()
	d, err := os.Open("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	entries, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range entries {
		if !strings.HasPrefix(name, "bench") { // bridges, which stay
			n++
		}
	}
	return n
}
