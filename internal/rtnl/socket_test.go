package rtnl_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/test/host"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { host.Main(m) }

// dial opens a socket in a namespace of the test's own.
func dial(t *testing.T) (*rtnl.Conn, string) {
	t.Helper()
	path := host.NetNS(t)
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rtnl.Dial(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { errors.Join(c.Close(), ns.Close()) }) //nolint:errcheck // the test is over
	return c, path
}

// many makes n links in a namespace.
func many(t *testing.T, ns string, n int) {
	t.Helper()
	var script strings.Builder
	for i := range n / 2 {
		fmt.Fprintf(&script, "link add a%d type veth peer name b%d\n", i, i)
	}
	host.RunIn(t, ns, "sh", "-ec", "ip -batch - <<'END'\n"+script.String()+"END")
}

func TestDumpOfManyParts(t *testing.T) {
	c, ns := dial(t)
	many(t, ns, 300)
	links, err := c.Links()
	if err != nil {
		t.Fatal(err)
	}
	want := host.Links(t, ns)
	for _, l := range links {
		if want[l.Name].Index != l.Index {
			t.Errorf("link %d is %s, want %d", l.Index, l.Name, want[l.Name].Index)
		}
		delete(want, l.Name)
	}
	if len(want) > 0 {
		t.Errorf("%d links were not listed", len(want))
	}
}

// TestDumpWhileLinksChange needs a dump to be repeated that the kernel says is
// not to be relied on.
func TestDumpWhileLinksChange(t *testing.T) {
	c, ns := dial(t)
	many(t, ns, 200)
	stop := make(chan struct{})
	changed := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				changed <- nil
				return
			default:
			}
			if _, err := host.TryIn(ns, "sh", "-ec", "ip link add x type dummy 2>/dev/null || ip link add x type veth peer name y; ip link del x"); err != nil {
				changed <- err
				return
			}
		}
	}()
	for range 300 {
		links, err := c.Links()
		if err != nil {
			t.Error(err)
			break
		}
		found := 0
		for _, l := range links {
			if l.Name[0] == 'a' || l.Name[0] == 'b' {
				found++
			}
		}
		if found != 200 {
			t.Errorf("a dump lists %d of 200 links", found)
			break
		}
	}
	close(stop)
	if err := <-changed; err != nil {
		t.Error(err)
	}
}

// TestErrors are those of the kernel, with its number, its class and its words.
func TestErrors(t *testing.T) {
	c, ns := dial(t)
	lo, err := c.Link("lo")
	if err != nil {
		t.Fatal(err)
	}
	address := rtnl.Addr{Prefix: netip.MustParsePrefix("10.9.9.9/24")}
	if err := c.AddAddr(lo.Index, address); err != nil {
		t.Fatal(err)
	}
	// Of this one old kernels have no words, and ip none to tell.
	taken := "already assigned"
	if _, err := host.TryIn(ns, "ip", "addr", "add", address.Prefix.String(), "dev", "lo"); err == nil {
		t.Fatal("ip adds the address twice")
	} else if !strings.Contains(err.Error(), taken) {
		taken = "file exists"
	}
	for _, test := range []struct {
		name         string
		err          error
		class, errno error
		words        string
	}{
		{"link that isn't there", c.DelLink(4711), rtnl.ErrNotFound, unix.ENODEV, ""},
		{"address twice", c.AddAddr(lo.Index, address), rtnl.ErrExists, unix.EEXIST, taken},
		{"gateway that is out of reach", c.AddRoute(rtnl.Route{Index: lo.Index, Dst: netip.MustParsePrefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("10.2.0.1")}), nil, unix.ENETUNREACH, "invalid gateway"},
	} {
		if test.class != nil && !errors.Is(test.err, test.class) || !errors.Is(test.err, test.errno) {
			t.Errorf("%s: %v", test.name, test.err)
		} else if !strings.Contains(test.err.Error(), test.words) {
			t.Errorf("%s: %q lacks %q", test.name, test.err, test.words)
		}
	}
}

// TestDelLinks deletes links together, also beside one that is gone and one that
// can't be deleted.
func TestDelLinks(t *testing.T) {
	c, ns := dial(t)
	many(t, ns, 6)
	index := func(name string) int {
		l, err := c.Link(name)
		if err != nil {
			t.Fatal(err)
		}
		return l.Index
	}
	const gone = 4711
	errs := c.DelLinks([]int{index("a0"), gone, index("a1")})
	if errs[0] != nil || !errors.Is(errs[1], rtnl.ErrNotFound) || errs[2] != nil {
		t.Errorf("beside one that is gone: %v", errs)
	}
	errs = c.DelLinks([]int{index("a2"), index("lo")})
	if errs[0] != nil || !errors.Is(errs[1], unix.EOPNOTSUPP) {
		t.Errorf("beside one that can't be deleted: %v", errs)
	}
	if left := host.Links(t, ns); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
}
