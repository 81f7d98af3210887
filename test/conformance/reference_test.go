package conformance

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// byReference has the reference's plugins serve a verb for the attachment.
func (a *attachment) byReference(t *testing.T, verb cni.Verb) {
	t.Helper()
	bin := host.Reference(t)
	stdout, stderr, exit := host.Plugin(t, bin, a.plugin(), host.Env(string(verb), a.id, a.netns, a.ifName, bin), a.withPrev(t))
	if exit != 0 {
		t.Fatalf("the reference's %s %s: exit status %d\n%s%s", verb, a.id, exit, stdout, stderr)
	}
	if verb == cni.VerbAdd {
		a.prev = json.RawMessage(stdout)
	}
}

// sharedReference are the tables of the reference without anything of an attachment.
const sharedReference = `^nft (table inet cni_plugins_masquerade$|chain inet cni_plugins_masquerade |rule inet cni_plugins_masquerade postrouting )`

// TestReferenceInBetween switches from ours to the reference and back while a container is deleted and added anew: ours has a
// record of the first time, which is not all that there is to delete.
func TestReferenceInBetween(t *testing.T) {
	host.Need(t, "nft-inet-nat", "iptables-nft")
	for _, masq := range masquerades[1:3] {
		for _, tt := range []struct{ name, config string }{
			{"ptp", config("ptp", "net", masq.keys+`"ipam":`+hostLocal("46"))},
			{"bridge", bridgeConfig("net", `"isGateway":true,`+masq.keys+`"ipam":`+hostLocal("46"))},
		} {
			t.Run(tt.name+" "+masq.name, func(t *testing.T) {
				removeAtEnd(t, bridgeName)
				before := host.Snapshot(t)
				a := attach(t, tt.config, "switched")
				a.add(t)
				a.byReference(t, cni.VerbDel)
				a.prev = nil
				a.byReference(t, cni.VerbAdd)
				a.del(t)
				a.gone(t)
				host.Unchanged(t, before, append(stays(bridgeName), sharedReference)...)
			})
		}
	}
}

// TestDelOfStranger deletes containers of which there is neither a record nor a result, by a path that leads to somebody
// else's namespace.
func TestDelOfStranger(t *testing.T) {
	for _, tt := range []struct {
		name   string
		inside func(t *testing.T, config string) *attachment // whose namespace it is
		former bool                                          // the container was the reference's, in a namespace that is gone
	}{
		{"a pair named as the reference does", func(t *testing.T, config string) *attachment {
			a := attach(t, config, "stranger")
			host.Run(t, "ip", "link", "add", "vethdeadbeef", "type", "veth", "peer", "name", "eth0", "netns", filepath.Base(a.netns))
			t.Cleanup(func() { host.Run(t, "ip", "link", "del", "vethdeadbeef") })
			return a
		}, false},
		{"the reference's", referenceAdds, false},
		{"the reference's, and so was the container", referenceAdds, true},
	} {
		for _, network := range []string{
			config("ptp", "net", `"ipam":`+hostLocal("4")),
			bridgeConfig("net", `"isGateway":true,"ipam":`+hostLocal("4")),
		} {
			network := derive2(network, "0.3.1") // results of this version are not cached
			a := &attachment{config: network, id: "never-added", ifName: "eth0"}
			t.Run(a.plugin()+" "+tt.name, func(t *testing.T) {
				removeAtEnd(t, bridgeName)
				if tt.former {
					gone := referenceAdds(t, network)
					host.RemoveNetNS(t, gone.netns)
					a.id = gone.id
				}
				other := tt.inside(t, network)
				a.netns = other.netns
				before, inside := host.Snapshot(t), host.Links(t, a.netns)["eth0"]
				a.del(t)
				if got := host.Links(t, a.netns)["eth0"]; got.Index != inside.Index || !got.Up() && inside.Up() {
					t.Errorf("eth0 is %+v, was %+v", got, inside)
				}
				if !tt.former { // else its address is gone
					host.Unchanged(t, before, stays("")...)
				}
			})
		}
	}
}

// TestDelByAddress deletes a container of the reference of which there is no result: of whom its interface is, the address tells that
// is recorded as the container's.
func TestDelByAddress(t *testing.T) {
	for _, families := range []string{"4", "6"} {
		for _, network := range []string{
			config("ptp", "net", `"ipam":`+hostLocal(families)),
			bridgeConfig("net", `"isGateway":true,"ipam":`+hostLocal(families)),
		} {
			a := &attachment{config: network}
			t.Run(a.plugin()+" "+families, func(t *testing.T) {
				removeAtEnd(t, bridgeName)
				before := host.Snapshot(t)
				a := referenceAdds(t, derive2(network, "0.3.1"))
				a.del(t)
				a.gone(t)
				host.Unchanged(t, before, stays(bridgeName)...)
			})
		}
	}
}

// referenceAdds adds a container by the reference, whose result nobody keeps.
func referenceAdds(t *testing.T, config string) *attachment {
	t.Helper()
	a := attach(t, config, "")
	a.id = "of-" + filepath.Base(a.netns)
	a.byReference(t, cni.VerbAdd)
	a.prev = nil
	t.Cleanup(func() { a.byReference(t, cni.VerbDel) })
	return a
}
