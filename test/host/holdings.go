package host

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Holdings are what a process holds that calls must not leave behind.
type Holdings struct {
	Goroutines  int
	Descriptors int
	Strays      int // threads in other network namespaces than the process
}

// Hold returns what this process holds. What is on its way to its end is waited
// for, as long as there is more than expected, if that is given.
func Hold(t testing.TB, expected ...Holdings) Holdings {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		runtime.GC() // finalizers close what the standard library has let go of
		h := Holdings{Goroutines: runtime.NumGoroutine()}
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		h.Descriptors = len(fds)
		home, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		threads, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			if ns, err := os.Readlink(thread); err == nil && ns != home {
				h.Strays++
			}
		}
		if len(expected) == 0 || h == expected[0] || time.Now().After(deadline) {
			return h
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// BytesRead is what the process has read by now, from sockets too.
func BytesRead(t testing.TB) (n int64) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(data), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}
