package addrstore

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary a process that changes a store: "DIR VERB N"
// with the verbs of child, N being after how many operations it kills itself, or how many
// times it does the verb. "VERB-named" makes do without unnamed files.
const childEnv = "ADDRSTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := child(strings.Fields(args)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runChild(args ...any) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+strings.TrimSpace(fmt.Sprintln(args...)))
	cmd.Stderr = os.Stderr
	return cmd
}

func child(args []string) error {
	dir := args[0]
	verb, named := strings.CutSuffix(args[1], "-named")
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	o := &Opener{noUnnamed: named}
	if verb == "churn" {
		return churn(o, dir, fmt.Sprint("p", os.Getpid()), n)
	}
	o.Step = func(string) {
		if n--; n < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
	s, err := o.Create(ctx, dir, "net")
	if err != nil {
		return err
	}
	defer s.Close()
	switch verb {
	case "add":
		for i, part := range [][2]string{{"10.0.0.1", "10.0.0.254"}, {"fd00::1", "fd00::ffff"}} {
			a, _, err := s.ReserveNext(addr(part[0]), addr(part[1]), func(netip.Addr) bool { return false }, Record{"victim", "eth0"})
			if err != nil {
				return err
			}
			if err := s.SetLastReserved(i, a); err != nil {
				return err
			}
		}
	case "del":
		_, err = s.Release("victim", "eth0")
	case "gc":
		_, err = s.Retain(func(r Record) bool { return r.ContainerID != "victim" })
	}
	return err
}

// churn reserves and releases n times, two addresses overlapping.
func churn(o *Opener, dir, id string, n int) error {
	for i := range n {
		s, err := o.Create(ctx, dir, "net")
		if err != nil {
			return err
		}
		_, ok, err := s.ReserveNext(addr("10.0.0.1"), addr("10.0.255.254"), func(netip.Addr) bool { return false }, Record{fmt.Sprint(id, "-", i), "eth0"})
		if err == nil && !ok {
			err = fmt.Errorf("nothing is free")
		}
		if err == nil && i > 0 {
			var released []netip.Addr
			released, err = s.Release(fmt.Sprint(id, "-", i-1), "eth0")
			if err == nil && len(released) != 1 {
				err = fmt.Errorf("released %s", released)
			}
		}
		s.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// TestKilled kills a process before each change that it makes to a file, and
// expects of the next one that it finds either nothing or all of it.
func TestKilled(t *testing.T) {
	for name, c := range map[string]struct {
		verb  string
		setup func(t *testing.T, dir string)
	}{
		"first ADD ever": {"add", func(*testing.T, string) {}},
		"ADD": {"add", func(t *testing.T, dir string) {
			with(t, new(Opener), dir, func(s *Store) { next(t, s, "other") })
		}},
		"ADD without unnamed files": {"add-named", func(t *testing.T, dir string) {
			with(t, new(Opener), dir, func(s *Store) { next(t, s, "other") })
		}},
		"ADD over a torn record": {"add", func(t *testing.T, dir string) {
			with(t, new(Opener), dir, func(s *Store) { next(t, s, "other") })
			check(t, os.WriteFile(dir+"/net/10.0.0.2", nil, 0o600))
		}},
		"ADD that grows the index": {"add", func(t *testing.T, dir string) {
			with(t, new(Opener), dir, func(s *Store) {
				for i := 0; !s.index2full(); i++ {
					next(t, s, fmt.Sprint("other", i))
				}
			})
		}},
		"DEL": {"del", func(t *testing.T, dir string) { check(t, runChild(dir, "add", 1000).Run()) }},
		"DEL with a stale index": {"del", func(t *testing.T, dir string) {
			check(t, runChild(dir, "add", 1000).Run())
			check(t, os.WriteFile(dir+"/net/10.0.0.9", []byte("other\r\neth0"), 0o600))
		}},
		"GC": {"gc", func(t *testing.T, dir string) {
			check(t, runChild(dir, "add", 1000).Run())
			with(t, new(Opener), dir, func(s *Store) { next(t, s, "other") })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 0; ; n++ {
				dir := t.TempDir()
				c.setup(t, dir)
				others := othersIn(t, dir)
				err := runChild(dir, c.verb, n).Run()
				if err == nil {
					if n < 3 {
						t.Errorf("only %d operations", n)
					}
					return
				}
				if cmd, ok := err.(*exec.ExitError); !ok || cmd.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatal(err)
				}
				o := &Opener{Wait: time.Second, noUnnamed: strings.HasSuffix(c.verb, "-named")}
				afterKill(t, o, dir, others)
				if t.Failed() {
					t.Fatalf("killed before operation %d", n)
				}
			}
		})
	}
}

// index2full reports whether the index grows with the next two addresses.
func (s *Store) index2full() bool { return s.index != nil && (s.index.live+2)*2 > s.index.slots }

func othersIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	if _, err := os.Stat(dir + "/net"); err != nil {
		return nil
	}
	for name, content := range files(t, dir+"/net") {
		if strings.HasPrefix(content, "other") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func afterKill(t *testing.T, o *Opener, dir string, others []string) {
	t.Helper()
	if o.noUnnamed {
		keepsRecords(t, o, dir)
	}
	// A runtime cleans up what it killed, tries again and cleans up again.
	for range 2 {
		if s, err := o.Open(ctx, dir, "net"); err == nil {
			for _, e := range mustList(t, s) {
				if e.err != nil && len(others) == 0 {
					t.Errorf("%s: %v", e.addr, e.err)
				}
			}
			_, err := s.Release("victim", "eth0")
			check(t, err)
			s.Close()
		}
		with(t, o, dir, func(s *Store) {
			if held, err := s.Held("victim", "eth0"); err != nil || len(held) > 0 {
				t.Errorf("victim still holds %s (%v)", held, err)
			}
			next(t, s, "victim")
		})
	}
	with(t, o, dir, func(s *Store) {
		_, err := s.Release("victim", "eth0")
		check(t, err)
	})
	if left := othersIn(t, dir); !slices.Equal(left, others) {
		t.Errorf("others hold %s, want %s", left, others)
	}
	for name, content := range files(t, dir+"/net") {
		if !strings.HasPrefix(content, "other") && name != "lock" && !strings.HasPrefix(name, "last_reserved_ip.") {
			t.Errorf("left over: %s %q", name, content)
		}
	}
	checkIndex(t, o, dir, true)
}

// keepsRecords expects that a new record leaves those alone that are there. The
// file that it is written to first may be one of them, after a crash.
func keepsRecords(t *testing.T, o *Opener, dir string) {
	t.Helper()
	with(t, o, dir, func(s *Store) {
		before := mustList(t, s)
		next(t, s, "bystander")
		for _, e := range before {
			if is, err := s.read(e.addr); is != e.record || err != nil {
				t.Errorf("%s was held by %s, now by %s (%v)", e.addr, e.record, is, err)
			}
		}
		_, err := s.Release("bystander", "eth0")
		check(t, err)
	})
}

func mustList(t *testing.T, s *Store) []entry {
	t.Helper()
	held, err := s.list()
	check(t, err)
	return held
}

// TestConcurrent has goroutines and processes change one store at once.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	o := new(Opener)
	const goroutines, processes, times = 200, 4, 25
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			if err := churn(o, dir, fmt.Sprint("g", i), times); err != nil {
				t.Error(err)
			}
		})
	}
	for range processes {
		wg.Go(func() {
			if err := runChild(dir, "churn", goroutines*times/processes).Run(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	with(t, o, dir, func(s *Store) {
		if n := len(mustList(t, s)); n != goroutines+processes {
			t.Errorf("%d addresses are held, want %d", n, goroutines+processes)
		}
	})
	checkIndex(t, o, dir, true)
}
