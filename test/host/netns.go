package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const netnsDir = "/run/netns"

var namespaces atomic.Int64 // so that parallel tests get different names

// NetNS makes a named network namespace, as a runtime makes one for a container, and returns its path. It is removed at the end
// of the test, unless the test has done so.
func NetNS(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("c%d", namespaces.Add(1))
	Run(t, "ip", "netns", "add", name)
	path := filepath.Join(netnsDir, name)
	t.Cleanup(func() { RemoveNetNS(t, path) })
	return path
}

// RemoveNetNS removes a namespace made by NetNS, and nothing where it is gone already.
func RemoveNetNS(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return
	}
	Run(t, "ip", "netns", "del", filepath.Base(path))
}

// DestroyNetNS is RemoveNetNS that waits until the kernel, which does it in its own time, has taken the host's ends of the namespace's veths as well.
func DestroyNetNS(t testing.TB, path string) {
	t.Helper()
	ends := make(map[int]bool)
	for _, l := range Links(t, path) {
		if l.Kind == "veth" {
			ends[l.ParentIndex] = true
		}
	}
	RemoveNetNS(t, path)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := ""
		for _, l := range Links(t, "") {
			if ends[l.Index] {
				left = l.Name
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("20 seconds after %s was removed %s is still there", path, left)
		}
	}
}

// In calls f on a thread that is in the network namespace ns ("" is the host), and waits for it. Sockets that f opens stay in that
// namespace and may be used from anywhere afterwards. f runs on a goroutine of its own: it returns an error
// where a test function would call t.Fatal.
func In(t testing.TB, ns string, f func() error) error {
	t.Helper()
	if ns == "" {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if syscall.Gettid() == syscall.Getpid() {
			// but the first one, which can't: it is kept busy while another goes
			defer runtime.UnlockOSThread()
			done <- In(t, ns, f)
			return
		}
		done <- func() error {
			fd, err := syscall.Open(nsPath(ns), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %s: %w", ns, err)
			}
			defer syscall.Close(fd)
			if _, _, errno := syscall.RawSyscall(setnsNumber(), uintptr(fd), syscall.CLONE_NEWNET, 0); errno != 0 {
				return fmt.Errorf("enter %s: %w", ns, errno)
			}
			return f()
		}()
	}()
	return <-done
}

// setnsNumber is the number of setns, which package syscall doesn't have for every architecture.
func setnsNumber() uintptr {
	if runtime.GOARCH == "amd64" {
		return 308
	}
	return 268 // of the generic table: arm64, riscv64, loong64
}

// nsPath turns the name of a namespace into its path and leaves a path as it is.
func nsPath(ns string) string {
	if strings.Contains(ns, "/") {
		return ns
	}
	return filepath.Join(netnsDir, ns)
}
