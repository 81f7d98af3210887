package addrstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var ctx = context.Background()

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// with opens the network "net" below dir, calls f and closes it.
func with(t testing.TB, o *Opener, dir string, f func(*Store)) {
	t.Helper()
	s, err := o.Create(ctx, dir, "net")
	check(t, err)
	defer s.Close()
	f(s)
}

// next reserves the next free address of 10.0.0.0/16.
func next(t testing.TB, s *Store, id string) netip.Addr {
	t.Helper()
	a, ok, err := s.ReserveNext(addr("10.0.0.1"), addr("10.0.255.254"), func(netip.Addr) bool { return false }, Record{id, "eth0"})
	if err != nil || !ok {
		t.Fatalf("reserve for %s: %v, %v", id, ok, err)
	}
	return a
}

// files returns the contents of a folder.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	m := make(map[string]string)
	for _, e := range entries {
		if !e.Type().IsRegular() {
			m[e.Name()] = e.Type().String()
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		check(t, err)
		m[e.Name()] = string(data)
	}
	return m
}

// checkIndex fails the test unless the index that the next verb would use says what the records say.
func checkIndex(t testing.TB, o *Opener, dir string, wantSealed bool) {
	t.Helper()
	with(t, o, dir, func(s *Store) {
		check(t, s.load())
		if s.rebuilt == wantSealed {
			t.Errorf("index was rebuilt: %v", s.rebuilt)
		}
		want := make(map[netip.Addr]Record)
		held, err := s.list()
		check(t, err)
		for _, e := range held {
			if !errors.Is(e.err, errTorn) {
				want[e.addr] = e.record
			}
		}
		got := make(map[netip.Addr]Record)
		check(t, s.index.all(func(e *slot) {
			if e[0] == kindHolder {
				got[e.addr()] = want[e.addr()]
			}
		}))
		if !maps.Equal(got, want) {
			t.Errorf("index has %v, want %v", got, want)
		}
		for a, r := range want {
			if by, err := s.index.heldBy(r); err != nil || !slices.Contains(by, a) {
				t.Errorf("index has %v for %s, want %s (%v)", by, r, a, err)
			}
			free, err := s.index.nextFree(a)
			if _, taken := want[free]; err != nil || taken {
				t.Errorf("index has %s as free (%v)", free, err)
			}
		}
	})
}

func TestLayout(t *testing.T) {
	dir := t.TempDir()
	o := new(Opener)
	with(t, o, dir, func(s *Store) {
		check(t, s.Reserve(addr("10.0.0.2"), Record{"c1", "eth0"}))
		check(t, s.Reserve(addr("fd00::2"), Record{"c1", "eth0"}))
		check(t, s.SetLastReserved(0, addr("10.0.0.200")))
		check(t, s.SetLastReserved(0, addr("10.0.0.2")))
		check(t, s.SetLastReserved(12, addr("fd00::2")))
	})
	want := map[string]string{
		"10.0.0.2": "c1\r\neth0", "fd00::2": "c1\r\neth0", "lock": "",
		"last_reserved_ip.0": "10.0.0.2", "last_reserved_ip.12": "fd00::2",
	}
	if got := files(t, dir+"/net"); !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := slices.Sorted(maps.Keys(files(t, dir))); !slices.Equal(got, []string{".plumb", "net"}) {
		t.Errorf("data folder has %q", got)
	}
	if got := slices.Collect(maps.Keys(files(t, dir+"/.plumb"))); !slices.Equal(got, []string{"net.index"}) {
		t.Errorf("side folder has %q", got)
	}
	st, err := os.Stat(dir + "/net/10.0.0.2")
	check(t, err)
	if st.Mode() != 0o600 {
		t.Errorf("record has mode %v", st.Mode())
	}
	with(t, o, dir, func(s *Store) {
		if got := s.LastReserved(12); got != addr("fd00::2") {
			t.Errorf("last reserved: %s", got)
		}
		if got := s.LastReserved(3); got.IsValid() {
			t.Errorf("last reserved of an unknown set: %s", got)
		}
		if released, err := s.Release("c1", "eth0"); err != nil || len(released) != 2 {
			t.Errorf("released %s, %v", released, err)
		}
	})
	checkIndex(t, o, dir, true)
}

// TestForeignChanges changes the folder behind the index's back, in the same
// tick of the clock as its seal, in every way that somebody might.
func TestForeignChanges(t *testing.T) {
	record := func(dir, name, content string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)
	}
	free := "10.0.0.4" // after the three that are held at first
	for name, c := range map[string]struct {
		do     func(dir string) error
		next   string
		holder string // the container that holds holds
		holds  string
		sealed bool
	}{
		"nothing":          {func(string) error { return nil }, free, "c1", "10.0.0.1", true},
		"added":            {func(d string) error { return record(d, free, "c9\r\neth0") }, "10.0.0.5", "c9", free, false},
		"added, old":       {func(d string) error { return record(d, free, "c9") }, "10.0.0.5", "c9", free, false},
		"removed":          {func(d string) error { return os.Remove(d + "/10.0.0.2") }, "10.0.0.2", "c2", "", false},
		"swapped":          {func(d string) error { return os.Rename(d+"/10.0.0.2", d+"/10.0.0.9") }, "10.0.0.2", "c2", "10.0.0.9", false},
		"removed, all":     {func(d string) error { return os.RemoveAll(d) }, "10.0.0.1", "c1", "", false},
		"torn":             {func(d string) error { return record(d, free, "") }, free, "c1", "10.0.0.1", false},
		"a folder":         {func(d string) error { return os.Mkdir(d+"/"+free, 0o700) }, "10.0.0.5", "c1", "10.0.0.1", false},
		"a link":           {func(d string) error { return os.Symlink("10.0.0.1", d+"/"+free) }, "10.0.0.5", "c1", "10.0.0.1", false},
		"a pipe":           {func(d string) error { return syscall.Mkfifo(d+"/"+free, 0o600) }, "10.0.0.5", "c1", "10.0.0.1", false},
		"a note":           {func(d string) error { return record(d, free, "kept for the printer") }, "10.0.0.5", "c1", "10.0.0.1", false},
		"too long":         {func(d string) error { return record(d, free, strings.Repeat("x", maxRecord+1)) }, "10.0.0.5", "c1", "10.0.0.1", false},
		"not an address":   {func(d string) error { return record(d, "note", "c9\r\neth0") }, free, "c9", "", false},
		"not in its form":  {func(d string) error { return record(d, "FD00::1", "c9\r\neth0") }, free, "c9", "", false},
		"other boot":       {func(d string) error { return patch(d, 8, "another boot") }, free, "c1", "10.0.0.1", false},
		"index cut":        {func(d string) error { return os.Truncate(d+"/../.plumb/net.index", 5000) }, free, "c1", "10.0.0.1", false},
		"index empty":      {func(d string) error { return os.Truncate(d+"/../.plumb/net.index", 0) }, free, "c1", "10.0.0.1", false},
		"index gone":       {func(d string) error { return os.RemoveAll(d + "/../.plumb") }, free, "c1", "10.0.0.1", false},
		"edited, in place": {func(d string) error { return overwrite(d+"/10.0.0.3", 0, "cx") }, free, "c3", "", true},
		"index is a folder": {func(d string) error {
			return errors.Join(os.Remove(d+"/../.plumb/net.index"), os.Mkdir(d+"/../.plumb/net.index", 0o700))
		}, free, "c1", "10.0.0.1", false},
		"side is a file": {func(d string) error {
			return errors.Join(os.RemoveAll(d+"/../.plumb"), os.WriteFile(d+"/../.plumb", nil, 0o600))
		}, free, "c1", "10.0.0.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := new(Opener)
			with(t, o, dir, func(s *Store) {
				for i := range 3 {
					next(t, s, fmt.Sprint("c", i+1))
				}
			})
			check(t, c.do(dir+"/net"))
			with(t, o, dir, func(s *Store) {
				held, err := s.Held(c.holder, "eth0")
				var want []netip.Addr
				if c.holds != "" {
					want = []netip.Addr{addr(c.holds)}
				}
				if err != nil || !slices.Equal(held, want) {
					t.Errorf("%s holds %s (%v), want %s", c.holder, held, err, want)
				}
				if rebuilt := s.rebuilt; rebuilt == c.sealed && !strings.Contains(name, "edited") {
					t.Errorf("index was rebuilt: %v", rebuilt)
				}
				if a := next(t, s, "new"); a.String() != c.next {
					t.Errorf("next is %s, want %s", a, c.next)
				}
			})
			inMemory := strings.HasPrefix(name, "side") || strings.HasPrefix(name, "index is")
			checkIndex(t, o, dir, !inMemory)
		})
	}
}

// patch changes the index's header.
func patch(dir string, off int64, text string) error {
	return overwrite(dir+"/../.plumb/net.index", off, text)
}

func overwrite(path string, off int64, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), off)
	return errors.Join(err, f.Close())
}

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(dir+"/net/10.0.0.6", 0o700))
	for name, content := range map[string]string{"10.0.0.3": "old", "10.0.0.4": "", "10.0.0.5": "c5\r\n"} {
		check(t, os.WriteFile(dir+"/net/"+name, []byte(content), 0o600))
	}
	with(t, new(Opener), dir, func(s *Store) {
		check(t, s.Reserve(addr("10.0.0.2"), Record{"c2", "eth0"}))
		for a, want := range map[string]string{
			"10.0.0.2": "10.0.0.2 is held by container c2, interface eth0",
			"10.0.0.3": "10.0.0.3 is held by container old",
			"10.0.0.4": "", // torn ones are free
			"10.0.0.5": "",
			"10.0.0.6": "10.0.0.6 is not available: " + dir + "/net/10.0.0.6 is in the way",
		} {
			err := s.Reserve(addr(a), Record{"new", "eth0"})
			if taken, ok := errors.AsType[*TakenError](err); ok && taken.Error() != want || !ok && (err != nil || want != "") {
				t.Errorf("%s: %v, want %q", a, err, want)
			}
		}
		if r, err := s.Holder(addr("10.0.0.4")); err != nil || r.ContainerID != "new" {
			t.Errorf("holder of a reclaimed address: %v, %v", r, err)
		}
		if _, err := s.Holder(addr("10.0.0.99")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("holder of a free address: %v", err)
		}
	})
}

// TestRelease follows the reference: records without an interface are found
// when there are no others.
func TestRelease(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(dir+"/net", 0o700))
	for name, content := range map[string]string{
		"10.0.0.2": "c1\r\neth0", "fd00::2": "c1\r\neth0", "10.0.0.3": "c1\r\neth1", "10.0.0.4": "c1", "10.0.0.5": "c2\r\neth0",
	} {
		check(t, os.WriteFile(dir+"/net/"+name, []byte(content), 0o600))
	}
	with(t, new(Opener), dir, func(s *Store) {
		if held, err := s.Held("c1", "eth1"); err != nil || fmt.Sprint(held) != "[10.0.0.3 10.0.0.4]" {
			t.Errorf("held: %s, %v", held, err)
		}
		for _, want := range []string{"[10.0.0.2 fd00::2]", "[10.0.0.4]", "[]"} {
			if released, err := s.Release("c1", "eth0"); err != nil || fmt.Sprint(released) != want {
				t.Errorf("released %s, %v, want %s", released, err, want)
			}
		}
	})
	got := slices.Sorted(maps.Keys(files(t, dir+"/net")))
	if want := []string{"10.0.0.3", "10.0.0.5", "lock"}; !slices.Equal(got, want) {
		t.Errorf("left are %s, want %s", got, want)
	}
}

func TestRetain(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(dir+"/net", 0o700))
	for name, content := range map[string]string{
		"10.0.0.2": "c1\r\neth0", "10.0.0.3": "c1\r\neth1", "10.0.0.4": "c1", "10.0.0.5": "c2\r\neth0",
		"10.0.0.6": "", "note": "c2\r\neth0", "last_reserved_ip.0": "10.0.0.6",
	} {
		check(t, os.WriteFile(dir+"/net/"+name, []byte(content), 0o600))
	}
	check(t, os.Mkdir(dir+"/net/10.0.0.7", 0o700))
	o := new(Opener)
	with(t, o, dir, func(s *Store) {
		released, err := s.Retain(func(r Record) bool { return r == Record{"c1", "eth0"} || r.IfName == "" })
		if err != nil || fmt.Sprint(released) != "[10.0.0.3 10.0.0.5 10.0.0.6]" {
			t.Errorf("released %s, %v", released, err)
		}
	})
	got := slices.Sorted(maps.Keys(files(t, dir+"/net")))
	if want := []string{"10.0.0.2", "10.0.0.4", "10.0.0.7", "last_reserved_ip.0", "lock", "note"}; !slices.Equal(got, want) {
		t.Errorf("left are %s, want %s", got, want)
	}
	checkIndex(t, o, dir, true)
}

func TestUsage(t *testing.T) {
	with(t, new(Opener), t.TempDir(), func(s *Store) {
		for i := range 20 {
			a := addr(fmt.Sprint("10.0.0.", i+1))
			check(t, s.Reserve(a, Record{fmt.Sprint("c", min(i/3, 4)), fmt.Sprint("eth", i)}))
		}
		u, err := s.Usage(func(a netip.Addr) bool { return a != addr("10.0.0.4") })
		if got := fmt.Sprint(u, err); got != "{19 [{c4 8} {c0 3} {c2 3}]} <nil>" {
			t.Error(got)
		}
	})
}

// TestNamedTemporaryFile checks the way of file systems without unnamed files.
func TestNamedTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	with(t, new(Opener), dir, func(s *Store) {
		check(t, s.createNamed(s.path("10.0.0.2"), []byte("c1\r\neth0")))
		if err := s.createNamed(s.path("10.0.0.2"), []byte("c2\r\neth0")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want that it exists", err)
		}
	})
	if got := files(t, dir+"/net")["10.0.0.2"]; got != "c1\r\neth0" {
		t.Errorf("record is %q", got)
	}
	if left := files(t, dir+"/.plumb"); len(left) != 0 {
		t.Errorf("side folder has %q", left)
	}
}

// TestOpenMakesNothing is about verbs that have nothing to find.
func TestOpenMakesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := new(Opener).Open(ctx, dir, "net"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("made %q", left)
	}
}

// TestPast checks that the folder's time is one that a change doesn't set.
func TestPast(t *testing.T) {
	dir := t.TempDir()
	before := time.Now()
	with(t, new(Opener), dir, func(s *Store) { next(t, s, "c1") })
	st, err := os.Stat(dir + "/net")
	check(t, err)
	if m := st.ModTime(); !m.Before(before) || m.Before(before.Add(-2*time.Second)) {
		t.Errorf("folder was modified %s before", before.Sub(m))
	}
}
