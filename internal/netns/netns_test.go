package netns

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestGone finds no namespace where something else is, or nothing.
func TestGone(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(
		os.WriteFile(at("file"), nil, 0o600), os.Mkdir(at("folder"), 0o700), unix.Mkfifo(at("pipe"), 0o600),
		os.Symlink("loop", at("loop")), os.Symlink("nowhere", at("dangling")), os.Symlink("/proc/self/ns/uts", at("uts")),
	); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"socket", "file", "folder", "pipe", "loop", "dangling", "uts", "missing", "file/in"} {
		if n, err := Open(at(name)); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v, %v", name, n, err)
		}
	}
}

// TestLock has somebody keep the lock, as a process of a container can: nobody else waits for longer than he wants to.
func TestLock(t *testing.T) {
	open := func() *NS {
		n, err := Current()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n
	}
	a, b := open(), open()
	unlock, err := a.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked twice: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = b.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}
