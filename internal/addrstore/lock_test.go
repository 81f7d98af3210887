package addrstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// hold locks the network's file in another process until the test ends or
// release is called.
func hold(t *testing.T, dir string) (pid int, release func()) {
	t.Helper()
	cmd := exec.Command("flock", dir+"/net/lock", "sh", "-c", "echo locked; read line")
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	stdout.Read(make([]byte, 16)) //nolint:errcheck // the next call fails if nothing comes
	release = func() { stdin.Close(); cmd.Wait() }
	t.Cleanup(release)
	return cmd.Process.Pid, release
}

func TestLockIsBounded(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(dir+"/net", 0o700))
	pid, release := hold(t, dir)
	o := &Opener{Wait: 50 * time.Millisecond}

	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	for name, c := range map[string]struct {
		ctx   context.Context
		cause error
	}{
		"own bound":         {ctx, nil},
		"context's":         {short, context.DeadlineExceeded},
		"own bound, queued": {ctx, nil}, // behind the thread that the first has left in the kernel
	} {
		start := time.Now()
		_, err := o.Open(c.ctx, dir, "net")
		if errors.Is(err, context.DeadlineExceeded) && c.ctx == short && time.Since(start) < time.Millisecond {
			continue // expired before it was tried
		}
		busy, ok := errors.AsType[*BusyError](err)
		if !ok || busy.PID != pid || !strings.HasPrefix(busy.Command, "flock "+dir) || busy.cause != c.cause {
			t.Errorf("%s: %v, want that process %d holds it", name, err, pid)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: waited %s", name, d)
		}
	}
	release()
	s, err := o.Open(ctx, dir, "net")
	check(t, err)
	s.Close()
	if n := len(o.turns.at); n != 0 {
		t.Errorf("%d turns are left", n)
	}
}

func TestWaitingLeavesNoThreads(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(dir+"/net", 0o700))
	_, release := hold(t, dir)
	o := &Opener{Wait: 20 * time.Millisecond}
	before := pprof.Lookup("goroutine").Count()
	done := make(chan error)
	const callers = 100
	for range callers {
		go func() {
			_, err := o.Open(ctx, dir, "net")
			done <- err
		}()
	}
	for range callers {
		if err := <-done; err == nil {
			t.Error("got the lock")
		}
	}
	// One that blocks in the kernel and one that waits to pass the lock on.
	left := func() int { return pprof.Lookup("goroutine").Count() - before }
	for deadline := time.Now().Add(10 * time.Second); left() > 2 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if n := left(); n > 2 {
		t.Errorf("%d goroutines are left behind", n)
	}
	release()
}

// TestFolderRemovedWhileWaiting is about an operator who removes a network.
func TestFolderRemovedWhileWaiting(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(dir+"/net", 0o700))
	_, release := hold(t, dir)
	opened := make(chan error)
	go func() {
		s, err := new(Opener).Create(ctx, dir, "net")
		if err == nil {
			next(t, s, "c1")
			s.Close()
		}
		opened <- err
	}()
	// It waits for the old file. What is listed are the locks of the whole machine.
	ours := regexp.MustCompile(fmt.Sprintf(`-> FLOCK +ADVISORY +WRITE %d `, os.Getpid()))
	for {
		locks, err := os.ReadFile("/proc/locks")
		check(t, err)
		if ours.Match(locks) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	check(t, os.RemoveAll(dir+"/net"))
	release()
	check(t, <-opened)
	if _, err := os.Stat(dir + "/net/10.0.0.1"); errors.Is(err, fs.ErrNotExist) {
		t.Error("the record was lost with the old folder")
	}
}
