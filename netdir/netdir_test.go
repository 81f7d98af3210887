package netdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A seen collects what a watch reports.
type seen struct {
	t    *testing.T
	sets chan Set
}

func watching(t *testing.T, dir string) *seen {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &seen{t: t, sets: make(chan Set, 100)}
	ended := make(chan error)
	go func() { ended <- Watch(ctx, dir, func(set Set) { s.sets <- set }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	})
	return s
}

// until waits for a report of these networks, "name" or "name:plugin,plugin", and
// an error that contains bad.
func (s *seen) until(bad string, want ...string) {
	s.t.Helper()
	var last string
	for timeout := time.After(10 * time.Second); ; {
		select {
		case set := <-s.sets:
			var got []string
			for _, l := range set.Lists {
				var types []string
				for _, p := range l.Plugins {
					types = append(types, p.Type)
				}
				got = append(got, l.Name+":"+strings.Join(types, ","))
			}
			last = fmt.Sprintf("%q, error %v", got, set.Err)
			if strings.Join(got, " ") == strings.Join(want, " ") && (bad == "") == (set.Err == nil) &&
				(set.Err == nil || strings.Contains(set.Err.Error(), bad)) {
				return
			}
		case <-timeout:
			s.t.Fatalf("reported last: %s; want %q, error %q", last, want, bad)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func list(name, plugin string) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"plugins":[{"type":%q}]}`, name, plugin)
}

func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "net.d")
	a, b := filepath.Join(dir, "10-a.conflist"), filepath.Join(dir, "20-b.conflist")
	s := watching(t, dir)
	s.until("no such file")

	write(t, a, list("a", "bridge"))
	s.until("", "a:bridge")
	write(t, b, list("b", "ptp"))
	s.until("", "a:bridge", "b:ptp")

	// Renamed over.
	write(t, filepath.Join(dir, ".new"), list("a", "macvlan"))
	do(t, os.Rename(filepath.Join(dir, ".new"), a))
	s.until("", "a:macvlan", "b:ptp")

	// Bad for a while: the last good one stays, also in its place.
	write(t, a, `{"cniVersion":"1.1.0","name":"a","plu`)
	s.until("10-a.conflist", "a:macvlan", "b:ptp")
	write(t, a, list("a", "vlan"))
	s.until("", "a:vlan", "b:ptp")

	// The plugins in a network's folder.
	write(t, filepath.Join(dir, "b", "1.conf"), `{"type":"tuning"}`)
	s.until("", "a:vlan", "b:ptp,tuning")
	write(t, filepath.Join(dir, "b", "1.conf"), `{"type":"firewall"}`)
	s.until("", "a:vlan", "b:ptp,firewall")

	do(t, os.Remove(a))
	s.until("", "b:ptp,firewall")

	// Gone, and what is left of it elsewhere doesn't matter.
	do(t, os.Rename(filepath.Dir(dir), filepath.Dir(dir)+"-old"))
	s.until("no such file", "b:ptp,firewall")
	write(t, filepath.Join(filepath.Dir(dir)+"-old", "net.d", "20-b.conflist"), list("b", "dummy"))
	write(t, a, list("a", "dummy"))
	s.until("", "a:dummy")
	do(t, os.RemoveAll(dir))
	s.until("no such file", "a:dummy")
	write(t, b, list("b", "tap"))
	s.until("", "b:tap")
}

// TestWatchLinks changes files as Kubernetes changes those of a ConfigMap: by one
// link to the folder that holds them.
func TestWatchLinks(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..1", "a.conflist"), list("a", "bridge"))
	write(t, filepath.Join(dir, "..2", "a.conflist"), list("a", "ptp"))
	do(t, os.Symlink("..1", filepath.Join(dir, "..data")), os.Symlink("..data/a.conflist", filepath.Join(dir, "a.conflist")))
	s := watching(t, dir)
	s.until("", "a:bridge")
	do(t, os.Symlink("..2", filepath.Join(dir, "..tmp")), os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	s.until("", "a:ptp")
}

// TestWatchBusy has somebody write into the folder without a pause.
func TestWatchBusy(t *testing.T) {
	dir := t.TempDir()
	s := watching(t, dir)
	s.until("")
	stop := make(chan struct{})
	stopped := make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			case <-time.After(pause / 10):
			}
			if err := os.WriteFile(filepath.Join(dir, ".log"), nil, 0o644); err != nil {
				stopped <- err
				return
			}
		}
	}()
	write(t, filepath.Join(dir, "a.conflist"), list("a", "bridge"))
	s.until("", "a:bridge")
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestMissingFolder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := Watch(ctx, filepath.Join(t.TempDir(), "no/such/folder"), func(s Set) {
		if !errors.Is(s.Err, fs.ErrNotExist) || s.Lists != nil {
			t.Errorf("reported %+v", s)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
