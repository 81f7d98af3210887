package dirlock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if _, err := Try(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	unlock, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(dir); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a lock that is taken: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is taken for long: %v", err)
	}
	unlock()
	if unlock, err = Try(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(t.Context(), file); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
}

// TestUnmade locks folders that can't be made, which is an error and not a matter of
// trying again.
func TestUnmade(t *testing.T) {
	lost := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", lost); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]error{
		"/sys/plumb/lock":             fs.ErrPermission,
		"/proc/plumb/lock":            fs.ErrNotExist,
		lost:                          fs.ErrExist,
		filepath.Join(lost, "folder"): fs.ErrExist,
	} {
		if _, err := Lock(t.Context(), dir); !errors.Is(err, want) {
			t.Errorf("%s: %v, want it to match %v", dir, err, want)
		}
	}
}

// TestTurns has many take turns for a folder that comes and goes.
func TestTurns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	var all sync.WaitGroup
	var inside atomic.Int32
	for range 8 {
		all.Go(func() {
			for i := range 20 {
				unlock, err := Lock(context.Background(), dir)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d at once", n)
				}
				inside.Add(-1)
				if i%2 == 0 { // from then on another's is the lock
					if err := os.Remove(dir); err != nil {
						t.Error(err)
					}
				}
				unlock()
			}
		})
	}
	all.Wait()
}
