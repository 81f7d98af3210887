package addrstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultWait is how long a lock is waited for: much longer than anyone holds
// it for, and short enough that a runtime is still there to read the error.
const DefaultWait = 30 * time.Second

// A BusyError says that the lock of a network was not to be had.
type BusyError struct {
	Path    string        // of the lock file
	Waited  time.Duration // until giving up
	PID     int           // of the holder, 0 if it can't be told
	Command string        // of the holder, may be empty
	cause   error         // of the context, if that ended the wait
}

func (e *BusyError) Error() string {
	holder := "a process that can't be seen from here"
	if e.PID != 0 {
		holder = fmt.Sprintf("process %d (%s)", e.PID, e.Command)
	}
	return fmt.Sprintf("lock %s is held by %s, waited %s", e.Path, holder, e.Waited.Round(time.Millisecond))
}

// Unwrap returns the error of the context, if that ended the wait.
func (e *BusyError) Unwrap() error { return e.cause }

// turns let one goroutine at a time wait for a lock file, so that a process
// has no more than one thread blocked in the kernel for each.
type turns struct {
	mu sync.Mutex
	at map[string]*turn
}

type turn struct {
	token chan struct{} // holds one element while somebody has the turn
	users int
}

func (t *turns) enter(path string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == nil {
		t.at = make(map[string]*turn)
	}
	if t.at[path] == nil {
		t.at[path] = &turn{token: make(chan struct{}, 1)}
	}
	t.at[path].users++
	return t.at[path]
}

func (t *turns) leave(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at[path].users--; t.at[path].users == 0 {
		delete(t.at, path)
	}
}

// acquire locks the file at path, which it makes if need be, and returns how
// to unlock it. The error is a *BusyError if that takes too long.
func (o *Opener) acquire(ctx context.Context, path string) (release func(), err error) {
	start := time.Now()
	var expired <-chan struct{}
	var cancel context.CancelFunc
	bound := func() { // only now: most needn't wait, and a timer costs something
		if expired == nil {
			wait := o.Wait
			if wait == 0 {
				wait = DefaultWait
			}
			var bounded context.Context
			bounded, cancel = context.WithTimeout(ctx, wait)
			expired = bounded.Done()
		}
	}
	defer func() {
		if cancel != nil {
			cancel()
		}
	}()
	busy := func() error {
		e := &BusyError{Path: path, Waited: time.Since(start), cause: ctx.Err()}
		e.PID, e.Command = lockHolder(path)
		return e
	}

	t := o.turns.enter(path)
	select {
	case t.token <- struct{}{}:
	default:
		bound()
		select {
		case t.token <- struct{}{}:
		case <-expired:
			o.turns.leave(path)
			return nil, busy()
		}
	}
	done := func() {
		<-t.token
		o.turns.leave(path)
	}

	for {
		f, err := o.openLock(path)
		if err != nil {
			done()
			return nil, err
		}
		unlock := func() {
			f.lock(unix.LOCK_UN) //nolint:errcheck // at once, though a child that is just being forked has the descriptor too
			f.close()
			done()
		}
		if err = f.lock(unix.LOCK_EX | unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			locked := make(chan error, 1)
			go func() { locked <- f.lock(unix.LOCK_EX) }()
			bound()
			select {
			case err = <-locked:
			case <-expired:
				// The kernel can't be told to stop waiting. When it has the
				// lock at last, it is passed on; until then the turn is taken.
				go func() { <-locked; unlock() }()
				return nil, busy()
			}
		}
		if err != nil {
			unlock()
			return nil, wrap("lock", path, err)
		}
		// Whoever removed the network's folder meanwhile took the file along.
		if f.is(path) {
			return unlock, nil
		}
		f.close()
	}
}

func (o *Opener) openLock(path string) (file, error) {
	f, err := open(path, unix.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		o.mark("create lock")
		f, err = open(path, unix.O_RDONLY|unix.O_CREAT, 0o600)
	}
	return f, err
}

// is reports whether path leads to the file.
func (f file) is(path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(f), &a) == nil && unix.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// lockHolder returns who has locked a file (proc_locks(5)), 0 if that can't be
// told: a process in another PID namespace, or the lock is gone by now.
func lockHolder(path string) (pid int, command string) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0, ""
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, ""
	}
	// The device is left out: some file systems have another one there than
	// stat says, and the numbers of two lock files are hardly the same.
	inode := ":" + strconv.FormatUint(st.Ino, 10)
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line) // "1: FLOCK ADVISORY WRITE 612 fe:00:1234 0 EOF"; with "->" for those who wait
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], inode) {
			continue
		}
		if pid, _ = strconv.Atoi(f[4]); pid <= 0 {
			return 0, ""
		}
		return pid, commandOf(pid)
	}
	return 0, ""
}

// commandOf returns the command line of a process, cut where it gets long.
func commandOf(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	line := string(bytes.TrimSpace(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
	if line == "" {
		return "ended"
	}
	if len(line) > 80 {
		line = line[:80] + "..."
	}
	return line
}
