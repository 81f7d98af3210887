package together

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// An ufw is Debian's, which drops what comes in and what is forwarded, but for
// a port of the host.
type ufw struct{}

func (ufw) start(t *testing.T, _ *container) {
	// What it writes goes to copies.
	host.Run(t, "mkdir", "-p", "/run/ufw")
	host.Run(t, "cp", "-a", "/etc/ufw/.", "/run/ufw")
	if err := syscall.Mount("/run/ufw", "/etc/ufw", "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		host.Run(t, "ufw", "--force", "disable")
		if err := syscall.Unmount("/etc/ufw", syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		host.Run(t, "rm", "-r", "/run/ufw")
	})
	host.Serve(t, "", "tcp", ":2222")
	host.Serve(t, "", "tcp", ":2223")
	host.Run(t, "ufw", "allow", "2222/tcp")
	host.Run(t, "ufw", "--force", "enable")
}

func (ufw) ways(ours, _ *container) []way {
	return []way{
		{"the host's own port", ours.outside, "tcp", host.Uplink4 + ":2222", "", ""},
		{"the host's own port", ours.outside, "tcp", "[" + host.Uplink6 + "]:2222", "", ""},
	}
}

func (ufw) events() []event {
	run := func(args ...string) func(t *testing.T) {
		return func(t *testing.T) { host.Run(t, "ufw", args...) }
	}
	return []event{
		{"ufw reload", run("reload")},
		{"a new rule of ufw", run("allow", "2224/tcp")},
		{"ufw disable", run("--force", "disable")},
		{"ufw enable", run("--force", "enable")},
		{"iptables-save and iptables-restore", func(t *testing.T) { reload(t, families("nft")...) }},
	}
}

func (ufw) shutsOut(backend string) bool { return backend == "nftables" }

// ufw keeps nothing of ours out, and the host's other ports closed.
func TestUFW(t *testing.T) {
	eachWay(t, func(t *testing.T, backend string, before bool) { share(t, backend, before, ufw{}) })
}

// Where the list has no firewall plugin, ufw keeps containers closed, and
// `ufw route` opens them. Where it has, the plugin's rules come first: the admin
// chain is where to keep somebody out.
func TestUFWRoute(t *testing.T) {
	t.Run("without the plugin", func(t *testing.T) {
		n := newNetwork(t, "", portmap(""))
		ufw{}.start(t, nil)
		c, visitor := n.run(t, "ours", true), n.run(t, "visitor", false)
		closed(t, "before ufw route", c.published(visitor)[0], c.out(visitor)[0])
		for _, args := range [][]string{
			{"in", "on", bridge, "out", "on", host.Uplink}, {"in", "on", bridge, "out", "on", bridge},
			{"in", "on", host.Uplink, "out", "on", bridge, "to", "any", "port", "80", "proto", "tcp"},
			{"in", "on", host.Uplink, "out", "on", bridge, "to", "any", "port", "53", "proto", "udp"},
		} {
			host.Run(t, "ufw", append([]string{"route", "allow"}, args...)...)
		}
		open(t, "after ufw route", c.all(visitor))
		host.Run(t, "ufw", "reload")
		open(t, "after ufw reload", c.all(visitor))
	})
	t.Run("with the plugin", func(t *testing.T) {
		n := newNetwork(t, "")
		ufw{}.start(t, nil)
		c, visitor := n.run(t, "ours", true), n.run(t, "visitor", false)
		host.Run(t, "ufw", "route", "deny", "in", "on", host.Uplink, "out", "on", bridge)
		open(t, "after ufw route deny", c.all(visitor))
		host.Run(t, "iptables", "-A", "CNI-ADMIN", "-i", host.Uplink, "-o", bridge, "-p", "tcp", "--dport", "80", "-j", "DROP")
		closed(t, "with a rule in CNI-ADMIN", c.published(visitor)[0])
		host.Run(t, "ufw", "reload")
		closed(t, "with a rule in CNI-ADMIN after ufw reload", c.published(visitor)[0])
		closed(t, "a port of the host", way{"another port", n.outside, "tcp", fmt.Sprintf("%s:2223", host.Uplink4), "", ""})
	})
}
