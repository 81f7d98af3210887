package addrstore

import (
	"os"
	"testing"
	"time"
)

// TestFresh reserves addresses that somebody has had in this boot, and others.
func TestFresh(t *testing.T) {
	o := new(Opener)
	reserve := func(t *testing.T, dir, a string) (fresh bool) {
		t.Helper()
		with(t, o, dir, func(s *Store) {
			check(t, s.Reserve(addr(a), Record{"c", a}))
			fresh = s.Fresh()
		})
		return fresh
	}
	release := func(t *testing.T, dir, a string) {
		t.Helper()
		with(t, o, dir, func(s *Store) {
			_, err := s.Release("c", a)
			check(t, err)
		})
	}
	want := func(t *testing.T, dir, a string, fresh bool) {
		t.Helper()
		if got := reserve(t, dir, a); got != fresh {
			t.Errorf("%s is fresh: %v, want %v", a, got, fresh)
		}
	}
	t.Run("again", func(t *testing.T) {
		dir := t.TempDir()
		for _, a := range []string{"10.0.0.2", "fd00::2", "10.0.1.2"} {
			want(t, dir, a, true)
			release(t, dir, a)
		}
		for _, a := range []string{"10.0.0.2", "fd00::2", "10.0.1.2"} {
			want(t, dir, a, false)
		}
		want(t, dir, "10.0.0.3", true)
	})
	t.Run("one of two", func(t *testing.T) {
		dir := t.TempDir()
		want(t, dir, "10.0.0.2", true)
		release(t, dir, "10.0.0.2")
		with(t, o, dir, func(s *Store) {
			check(t, s.Reserve(addr("10.0.0.2"), Record{"c2", "eth0"}))
			check(t, s.Reserve(addr("fd00::2"), Record{"c2", "eth0"}))
			if s.Fresh() {
				t.Error("the first has been held before")
			}
		})
	})
	t.Run("collected", func(t *testing.T) {
		dir := t.TempDir()
		want(t, dir, "10.0.0.2", true)
		with(t, o, dir, func(s *Store) {
			_, err := s.Retain(func(Record) bool { return false })
			check(t, err)
		})
		want(t, dir, "10.0.0.2", false)
		want(t, dir, "10.0.0.3", true)
	})
	t.Run("in a table that grows", func(t *testing.T) {
		dir := t.TempDir()
		want(t, dir, "10.0.0.2", true)
		with(t, o, dir, func(s *Store) {
			for range 3 * minSlots {
				next(t, s, "many")
			}
		})
		release(t, dir, "10.0.0.2")
		want(t, dir, "10.0.0.2", false)
		want(t, dir, "10.0.200.2", true)
	})
	// What others gave, nobody can tell.
	for name, change := range map[string]func(dir string) error{
		"others gave one":         func(dir string) error { return os.WriteFile(dir+"/net/10.0.0.9", []byte("x\r\neth0"), 0o600) },
		"the index is gone":       func(dir string) error { return os.RemoveAll(dir + "/.plumb") },
		"others removed one":      func(dir string) error { return os.Remove(dir + "/net/10.0.0.2") },
		"of an earlier version":   func(dir string) error { return patch(dir+"/net", 0, "plumbix1") },
		"the index was not whole": func(dir string) error { return os.Truncate(dir+"/.plumb/net.index", 5000) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			want(t, dir, "10.0.0.2", true)
			check(t, change(dir))
			want(t, dir, "10.0.0.3", false)
			want(t, dir, "10.0.0.4", false)
		})
	}
	t.Run("another boot", func(t *testing.T) {
		dir := t.TempDir()
		want(t, dir, "10.0.0.2", true)
		check(t, patch(dir+"/net", 8, "another boot"))
		want(t, dir, "10.0.0.3", false) // the folder has changed in this one
	})
}

// TestBeforeBoot tells a folder that has changed since the machine booted from one
// that has not.
func TestBeforeBoot(t *testing.T) {
	now, err := stampOf(t.TempDir())
	check(t, err)
	if now.beforeBoot() {
		t.Error("a new folder is from before")
	}
	now.Ctime = [2]int64{time.Now().Add(-100 * 365 * 24 * time.Hour).Unix(), 0}
	if !now.beforeBoot() {
		t.Error("an old folder is from since")
	}
}
