package hostlocal

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/plumb-cni/plumb/cni"
	"golang.org/x/sys/unix"
)

// TestReads has the kernel tell what a verb reads of the network's folder: its
// own record at most, and no list of the others, so that it costs the same however
// many there are. GC, which has to list them, shows that it would be told.
func TestReads(t *testing.T) {
	const subnet = `"subnet":"10.0.0.0/16"`
	n := newNode(t)
	for i := range 20 {
		n.add(t, fmt.Sprint("other", i), subnet)
	}
	r := n.must(t, "c1", subnet)
	var own *cni.Result
	for _, c := range []struct {
		verb string
		call func() error
		most int // records that may be read
	}{
		{"ADD", func() (err error) { own, err = n.Add(ctx, r); return err }, 0},
		{"CHECK", func() error { r.Config.PrevResult = own; return n.Check(ctx, r) }, 1},
		{"STATUS", func() error { return n.Status(ctx, r) }, 0},
		{"DEL", func() error { _, err := n.Del(ctx, r); return err }, 1},
		{"second DEL", func() error { _, err := n.Del(ctx, r); return err }, 0},
		{"GC", func() error { r.Config.HasValid = true; _, err := n.GC(ctx, r); return err }, -1},
	} {
		read := reads(t, n.dir+"/net", func() { check(t, c.call()) })
		listed := slices.Contains(read, "")
		records := slices.Compact(slices.DeleteFunc(read, func(name string) bool {
			_, err := netip.ParseAddr(name)
			return err != nil
		}))
		if want := c.most < 0; listed != want {
			t.Errorf("%s lists the folder: %v, want %v", c.verb, listed, want)
		}
		if c.most >= 0 && len(records) > c.most {
			t.Errorf("%s reads %s", c.verb, records)
		}
	}
}

// reads returns the names of the files in a folder that were read while f ran,
// in order; the empty name is the folder itself (inotify(7)).
func reads(t *testing.T, dir string, f func()) (names []string) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	check(t, err)
	defer unix.Close(fd)
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_ACCESS)
	check(t, err)
	f()
	buf := make([]byte, 64<<10)
	for {
		size, err := unix.Read(fd, buf)
		if err == unix.EAGAIN {
			return names
		}
		check(t, err)
		for left := buf[:size]; len(left) > 0; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&left[0]))
			end := unix.SizeofInotifyEvent + int(event.Len)
			names = append(names, strings.TrimRight(string(left[unix.SizeofInotifyEvent:end]), "\x00"))
			left = left[end:]
		}
	}
}
