package together

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// firewalld rejects what is forwarded from the time that it starts. With the
// network's subnets in zone trusted for good, containers never notice that it
// starts, reloads or stops.
func TestFirewalldTrusts(t *testing.T) {
	n := newNetwork(t, "")
	ours, visitor := n.run(t, "ours", true), n.run(t, "visitor", false)
	f := host.Firewalld(t)
	for _, subnet := range []string{subnet4, subnet6} {
		host.Run(t, "firewall-cmd", "-q", "--permanent", "--zone=trusted", "--add-source="+subnet)
	}
	for _, e := range []event{
		{"a reload", func(t *testing.T) { host.Run(t, "firewall-cmd", "-q", "--reload") }},
		{"a complete reload", func(t *testing.T) { host.Run(t, "firewall-cmd", "-q", "--complete-reload") }},
		{"its end", func(*testing.T) { f.Stop() }},
		{"its start", func(t *testing.T) { f.Start(t) }},
	} {
		e.do(t)
		open(t, "after "+e.name, ours.all(visitor))
	}
	later := n.runAt(t, "later", "10.22.0.202", "fd22::202")
	open(t, "attached while it runs", later.out(visitor))
}

// Without that, CHECK says that it has forgotten containers, or has come after
// them, and DEL and ADD make it know them.
func TestFirewalldForgets(t *testing.T) {
	n := newNetwork(t, "")
	ours, visitor := n.run(t, "ours", true), n.run(t, "visitor", false)
	f := host.Firewalld(t)
	renew := func() {
		t.Helper()
		ours.complains(t, "after it has forgotten", "firewalld")
		ours.renew(t)
		visitor.renew(t)
		open(t, "after DEL and ADD", ours.all(visitor))
		ours.check(t, "after DEL and ADD")
	}
	closed(t, "when it has started", ours.out(visitor)[0])
	renew()
	host.Run(t, "firewall-cmd", "-q", "--reload")
	closed(t, "when it was reloaded", ours.out(visitor)[0])
	renew()
	f.Stop()
	open(t, "when it was stopped", ours.all(visitor))
	ours.del(t)
}
