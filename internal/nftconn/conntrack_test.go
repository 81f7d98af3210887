package nftconn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/test/host"
	"golang.org/x/sys/unix"
)

// flows lists what conntrack -L says of a protocol: "src>dst" of both directions.
func flows(t *testing.T, family string) []string {
	t.Helper()
	out, _ := host.Try("conntrack", "-L", "-f", family, "-p", "udp")
	var list []string
	for line := range strings.Lines(out) {
		var parts []string
		for _, f := range strings.Fields(line) {
			if v, ok := strings.CutPrefix(f, "src="); ok {
				parts = append(parts, v)
			}
			if v, ok := strings.CutPrefix(f, "dst="); ok {
				parts[len(parts)-1] += ">" + v
			}
		}
		list = append(list, strings.Join(parts, " "))
	}
	slices.Sort(list)
	return list
}

// many makes more flows, of TCP, than are read as text.
func many(t *testing.T) {
	t.Helper()
	var s strings.Builder
	for i := range fewShown + 1 {
		fmt.Fprintf(&s, "-I -p tcp --state ESTABLISHED -t 600 -s 198.51.100.1 -d 198.51.100.2 --sport %d --dport 80\n", 1000+i)
	}
	file := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(file, []byte(s.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	host.Run(t, "conntrack", "--load-file", file)
}

// Flows of all sorts can be deleted by what the kernel shows of them.
func TestShownFlows(t *testing.T) {
	host.Need(t, "conntrack-procfs")
	host.Run(t, "conntrack", "-F")
	for _, f := range [][2][]string{
		{{"10.0.0.1", "10.0.0.2"}, {"-p", "udp", "--sport", "1000", "--dport", "53"}},
		{{"10.0.0.1", "10.0.0.2"}, {"-p", "udp", "--sport", "1000", "--dport", "53", "-w", "7"}},
		{{"10.0.0.1", "10.0.0.2"}, {"-p", "tcp", "--sport", "1000", "--dport", "80", "--state", "TIME_WAIT"}},
		{{"10.0.0.1", "10.0.0.2"}, {"-p", "sctp", "--orig-port-src", "1000", "--orig-port-dst", "80", "--reply-port-src", "80", "--reply-port-dst", "1000",
			"--orig-vtag", "1", "--reply-vtag", "2", "--state", "ESTABLISHED"}},
		{{"10.0.0.1", "10.0.0.2"}, {"-p", "icmp", "--icmp-type", "8", "--icmp-code", "0", "--icmp-id", "4660"}},
		{{"10.0.0.1", "10.0.0.2"}, {"-p", "89"}}, // OSPF, which nothing more is known of
		{{"fd00::1", "fd00::2"}, {"-p", "udp", "--sport", "1000", "--dport", "53"}},
		{{"fd00::1", "fd00::2"}, {"-p", "tcp", "--sport", "1000", "--dport", "80", "--state", "SYN_SENT"}},
		{{"fd00::1", "fd00::2"}, {"-p", "icmpv6", "--icmpv6-type", "128", "--icmpv6-code", "0", "--icmpv6-id", "4660"}},
	} {
		host.Run(t, "conntrack", append([]string{"-I", "-t", "60", "-s", f[0][0], "-d", f[0][1]}, f[1]...)...)
	}
	c := dial(t)
	if err := c.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	n, err := c.countFlows()
	if err != nil || n != 9 {
		t.Fatalf("%d flows to begin with: %v", n, err)
	}
	for _, f := range []struct {
		family Family
		shown  int
	}{{IPv4, 6}, {IPv6, 3}} {
		shown, ok := c.shownFlows(n, []Family{f.family})
		if !ok || len(shown) != f.shown {
			t.Fatalf("%d flows of %s are shown: %t", len(shown), f.family, ok)
		}
		if err := c.deleteListed(shown); err != nil {
			t.Error(err)
		}
	}
	if left, _ := host.Try("conntrack", "-L"); strings.TrimSpace(left) != "" {
		t.Errorf("left are:\n%s", left)
	}
}

func TestFlushConntrack(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.9.9.9")}
	for _, x := range []struct {
		name  string
		flush func(*Conn) error
	}{
		{"among few", func(c *Conn) error { return c.FlushConntrack(context.Background(), addrs) }},
		{"by filter", func(c *Conn) error {
			var v4 []netip.Addr
			for _, a := range addrs {
				if a = a.Unmap(); a.Is4() {
					v4 = append(v4, a)
				}
			}
			err := c.open(context.Background())
			if err == nil {
				v4, err = c.flushFlows(v4)
			}
			return errors.Join(err, c.deleteFlows(context.Background(), append(v4, addrs[1])))
		}},
		{"of many", func(c *Conn) error {
			all := addrs
			for i := range 300 {
				all = append(all, netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}))
			}
			return c.FlushConntrack(context.Background(), all)
		}},
		{"one by one", func(c *Conn) error {
			return errors.Join(c.open(context.Background()), c.deleteFlows(context.Background(), []netip.Addr{addrs[0].Unmap(), addrs[2]}),
				c.deleteFlows(context.Background(), addrs[1:2]))
		}},
		{"one by one, both families", func(c *Conn) error {
			return errors.Join(c.open(context.Background()), c.deleteFlows(context.Background(), []netip.Addr{addrs[0].Unmap(), addrs[1], addrs[2]}))
		}},
		{"among many", func(c *Conn) error {
			many(t)
			return c.FlushConntrack(context.Background(), addrs)
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			host.Run(t, "conntrack", "-F")
			for _, f := range []struct{ src, dst, replySrc, replyDst string }{
				{"10.0.0.1", "10.0.0.9", "10.0.0.9", "10.0.0.1"},   // begun by the address
				{"10.0.0.1", "10.0.0.8", "10.0.0.8", "192.0.2.1"},  // and masqueraded
				{"10.0.0.7", "192.0.2.1", "10.0.0.1", "10.0.0.7"},  // forwarded to it
				{"10.0.0.7", "10.0.0.2", "10.0.0.2", "10.0.0.7"},   // others
				{"10.0.0.2", "10.0.0.10", "10.0.0.10", "10.0.0.2"}, //
				{"fd00::1", "fd00::2", "fd00::2", "fd00::1"},       //
				{"fd00::3", "fd00::1:2", "fd00::1", "fd00::3"},     //
				{"fd00::2", "fd00::3", "fd00::3", "fd00::2"},       //
			} {
				host.Run(t, "conntrack", "-I", "-p", "udp", "-t", "60", "-s", f.src, "-d", f.dst, "-r", f.replySrc, "-q", f.replyDst,
					"--sport", "1000", "--dport", "53", "--reply-port-src", "53", "--reply-port-dst", "1000")
			}
			if n := len(flows(t, "ipv4")) + len(flows(t, "ipv6")); n != 8 {
				t.Fatalf("%d flows to begin with", n)
			}
			if err := x.flush(dial(t)); err != nil {
				t.Fatal(err)
			}
			want := []string{"10.0.0.2>10.0.0.10 10.0.0.10>10.0.0.2", "10.0.0.7>10.0.0.2 10.0.0.2>10.0.0.7", "fd00::2>fd00::3 fd00::3>fd00::2"}
			if got := append(flows(t, "ipv4"), flows(t, "ipv6")...); !slices.Equal(got, want) {
				t.Errorf("left are %q", got)
			}
		})
	}
}

// The families are listed together or, filtered by the kernel, one by one.
func TestFlushFlows(t *testing.T) {
	for name, listings := range map[string][][]Family{
		"together": {{IPv4, IPv6}}, "one by one": {{IPv4}, {IPv6}},
		"together, among many": {{IPv4, IPv6}}, "one by one, among many": {{IPv4}, {IPv6}},
	} {
		t.Run(name, func(t *testing.T) {
			host.Run(t, "conntrack", "-F")
			if strings.Contains(name, "many") {
				many(t)
			}
			for _, f := range []struct{ protocol, src, dst, to, port string }{
				{"udp", "192.0.2.1", "10.0.0.1", "10.0.0.9", "53"},
				{"udp", "192.0.2.1", "10.0.0.1", "10.0.0.8", "54"}, // another port
				{"udp", "192.0.2.2", "10.0.0.2", "10.0.0.9", "53"}, // another address
				{"udp", "2001:db8::1", "fd00::1", "fd00::9", "53"},
				{"udp", "2001:db8::2", "fd00::2", "fd00::9", "53"},
			} {
				host.Run(t, "conntrack", "-I", "-p", f.protocol, "-t", "60", "-s", f.src, "-d", f.dst, "-r", f.to, "-q", f.src,
					"--sport", "1000", "--dport", f.port, "--reply-port-src", f.port, "--reply-port-dst", "1000")
			}
			// Of another protocol, to the same place.
			host.Run(t, "conntrack", "-I", "-p", "tcp", "--state", "ESTABLISHED", "-t", "60", "-s", "192.0.2.1", "-d", "10.0.0.1", "-r", "10.0.0.9", "-q", "192.0.2.1",
				"--sport", "1000", "--dport", "53", "--reply-port-src", "53", "--reply-port-dst", "1000")
			c := dial(t)
			var asked []string
			for _, families := range listings {
				err := c.FlushFlows(context.Background(), families, UDP, func(f Flow) bool {
					asked = append(asked, f.To.String()+" "+f.Answerer.String())
					return f.To.Port() == 53 && (f.To.Addr() == netip.MustParseAddr("10.0.0.1") || f.To.Addr() == netip.MustParseAddr("fd00::1"))
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(asked)
			want := []string{"10.0.0.1:53 10.0.0.9:53", "10.0.0.1:54 10.0.0.8:54", "10.0.0.2:53 10.0.0.9:53", "[fd00::1]:53 [fd00::9]:53", "[fd00::2]:53 [fd00::9]:53"}
			if !slices.Equal(asked, want) {
				t.Errorf("asked about %q, want %q", asked, want)
			}
			want = []string{"192.0.2.1>10.0.0.1 10.0.0.8>192.0.2.1", "192.0.2.2>10.0.0.2 10.0.0.9>192.0.2.2", "2001:db8::2>fd00::2 fd00::9>2001:db8::2"}
			if got := append(flows(t, "ipv4"), flows(t, "ipv6")...); !slices.Equal(got, want) {
				t.Errorf("left are %q, want %q", got, want)
			}
			if left := host.Run(t, "conntrack", "-L", "-p", "tcp", "-d", "10.0.0.1"); !strings.Contains(left, "dst=10.0.0.1") {
				t.Errorf("a flow of TCP is gone:\n%s", left)
			}
		})
	}
}

// TestOldKernels take a filter in a request to delete for a tuple, and must find it incomplete rather than flush all: what they
// would look at, the tuple, is what this kernel refuses without a filter.
// TestNoNetfilter: a kernel that doesn't know nfnetlink has no connections to forget.
func TestNoNetfilter(t *testing.T) {
	done := make(chan error, 2)
	go func() {
		runtime.LockOSThread() // for good: the filter stays with the thread
		done <- refuseNetfilter()
		ns, err := netns.Current()
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		var c *Conn
		if c, err = Dial(ns); err == nil {
			if _, err = c.Read(context.Background()); !errors.Is(err, ErrUnsupported) {
				err = fmt.Errorf("read: %v", err)
			} else {
				err = c.FlushConntrack(context.Background(), []netip.Addr{addr})
			}
		}
		done <- err
	}()
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// refuseNetfilter has the kernel answer this thread that it knows no nfnetlink (seccomp(2)).
func refuseNetfilter() error {
	const load, jumpIfEqual, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	low := uint32(16) // of the arguments' 8 bytes each, after number, architecture and instruction pointer
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		low += 4
	}
	filter := []unix.SockFilter{
		{Code: load, K: 0},
		{Code: jumpIfEqual, K: unix.SYS_SOCKET, Jf: 5},
		{Code: load, K: low},
		{Code: jumpIfEqual, K: unix.AF_NETLINK, Jf: 3},
		{Code: load, K: low + 16},
		{Code: jumpIfEqual, K: unix.NETLINK_NETFILTER, Jf: 1},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

func TestOldKernels(t *testing.T) {
	c := dial(t)
	if err := c.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	var e encoder
	seq := c.sock.sequence(1)
	e.message(ctMsg(ctDelete), 4, seq, IPv4, 0, func() {
		e.nest(ctaTupleOrig, func() {
			e.nest(ctaTupleIP, func() { e.bytes(ctaIPv4Source, addr.AsSlice()) })
		})
	})
	err := c.sock.exchange(e.buf, seq, func(m message) bool {
		if errno, _ := m.status(); errno.Error() != "invalid argument" {
			t.Errorf("answer %v", errno)
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}
