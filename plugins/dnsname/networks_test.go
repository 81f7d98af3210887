package dnsname_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// A container finds the names of all of its networks, whichever it asks, and
// those of no other, by whatever address it asks.
func TestNetworks(t *testing.T) {
	front := newPod(t, 60, 2, "front", "")
	both := newPod(t, 60, 3, "both", "")
	second := both.joins(t, 61, 3, "")
	back := newPod(t, 61, 2, "back", "")
	for _, server := range []string{both.server4(), second.server4(), both.server6(), second.server6()} {
		for name, want := range map[string]string{"front": front.v4, "back": back.v4, "front.dns.podman": front.v4, "back.dns.podman": back.v4} {
			if got := both.short(t, server, name, "A"); got != want {
				t.Errorf("the container of both networks hears from %s of %s: %q, want %q", server, name, got, want)
			}
		}
		if got := both.short(t, server, "-x", back.v6); got != "back.dns.podman." {
			t.Errorf("the container of both networks hears from %s of %s: %q", server, back.v6, got)
		}
	}
	front.knows(t, "both", both.v4, both.v6)
	back.knows(t, "both", second.v4, second.v6)
	for _, p := range []*pod{front, back} {
		other := map[*pod]*pod{front: back, back: front}[p]
		for _, server := range []string{p.server4(), other.server4()} {
			for _, name := range []string{"front", "back"} {
				got := p.short(t, server, name+".dns.podman", "A")
				if own := (p == front) == (name == "front"); own != (got != "") {
					t.Errorf("from %s at %s %s is %q", p.v4, server, name, got)
				}
			}
		}
		if got := p.short(t, p.server4(), "-x", other.v4); got != "" {
			t.Errorf("%s hears whose %s is: %q", p.v4, other.v4, got)
		}
	}

	// One that has no name is of the network that it is in; whoever is in none is nobody.
	nameless := unnamed(t, 60, 9)
	if got := nameless.bridgeDig(t, "10.60.0.1", "front.dns.podman"); got != front.v4 {
		t.Errorf("a container without a name hears %q", got)
	}
	if got := nameless.bridgeDig(t, "10.61.0.1", "back.dns.podman"); got != "" {
		t.Errorf("a container of another network hears %q", got)
	}
	if out, _ := host.Try("dig", "+short", "@10.60.0.1", "front.dns.podman"); strings.TrimSpace(out) != front.v4 {
		t.Errorf("the host hears %q", out)
	}
	if out, _ := host.Try("dig", "+short", "@10.60.0.1", "back.dns.podman"); strings.TrimSpace(out) != "" {
		t.Errorf("the host hears at another network %q", out)
	}
	foreigner(t, both)

	second.Del(t)
	if got := both.status(t, both.server4(), "back.dns.podman"); got != "NXDOMAIN" {
		t.Errorf("a network that the container has left: %s", got)
	}
	if out, _ := host.Try("dig", "+short", "@10.61.0.1", "both.dns.podman"); strings.TrimSpace(out) != "" {
		t.Errorf("who has left is still %q", out)
	}
	for _, p := range []*pod{front, both, back} {
		p.Del(t)
	}
	nothing(t)
}

// foreigner asks from a network that is none of the containers'.
func foreigner(t *testing.T, p *pod) {
	t.Helper()
	stranger := attach.New(t, `{"cniVersion":"1.1.0","name":"elsewhere","type":"ptp","ipam":{"type":"static",
		"addresses":[{"address":"10.99.0.2/24","gateway":"10.99.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}}`, "stranger")
	stranger.Add(t)
	defer stranger.Del(t)
	out, _ := host.TryIn(stranger.NetNS, "dig", "+time=2", "+tries=1", "@"+p.server4(), "front.dns.podman")
	if !strings.Contains(out, "status: REFUSED") || !strings.Contains(out, "EDE: 18 (Prohibited)") {
		t.Errorf("a stranger hears\n%s", out)
	}
}

func (p *pod) bridgeDig(t *testing.T, server, name string) string {
	t.Helper()
	out, _ := host.TryIn(p.bridge.NetNS, "dig", "+short", "+time=2", "+tries=1", "@"+server, name)
	return strings.TrimSpace(out)
}

// Networks that say so share their names, by the full ones; the others don't.
func TestMultiDomain(t *testing.T) {
	keys.Covers(t, "dnsname", "multiDomain", "domainName")
	const multi = `,"multiDomain":true,"domainName":"%s.example"`
	one := newPod(t, 60, 2, "one", fmt.Sprintf(multi, "first"))
	two := newPod(t, 61, 2, "two", fmt.Sprintf(multi, "second"))
	three := newPod(t, 62, 2, "three", `,"domainName":"third.example"`)
	one.knows(t, "two.second.example", two.v4, two.v6)
	two.knows(t, "one.first.example", one.v4, one.v6)
	one.knows(t, "one", one.v4, one.v6)
	for _, tt := range []struct {
		p          *pod
		name, want string
	}{
		{one, "nobody.second.example", "NXDOMAIN"},
		{three, "three.third.example", "NOERROR"},
	} {
		if got := tt.p.status(t, tt.p.server4(), tt.name); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		p    *pod
		name string
	}{{one, "two"}, {one, "three.third.example"}, {three, "one.first.example"}, {three, "two.second.example"}} {
		if got := tt.p.short(t, tt.p.server4(), tt.name); got != "" {
			t.Errorf("%s is %q to %s", tt.name, got, tt.p.v4)
		}
	}
}

// Of several containers with an alias any may be meant; one that is left has it
// alone.
func TestSharedAlias(t *testing.T) {
	const alias = `,"runtimeConfig":{"aliases":{"net60":["web"]}}`
	a, b := newPod(t, 60, 2, "a", alias), newPod(t, 60, 3, "b", alias)
	if got, want := b.short(t, b.server4(), "web"), a.v4+" "+b.v4; got != want {
		t.Errorf("web is %q, want %q", got, want)
	}
	a.Del(t)
	if got := b.short(t, b.server4(), "web"); got != b.v4 {
		t.Errorf("web is %q, want %q", got, b.v4)
	}
	b.knows(t, "b", b.v4, b.v6)
}

// Names that DNS can't carry are left out. The ID, as runtimes show it, is always
// a name if there is no other.
func TestNoName(t *testing.T) {
	long := strings.Repeat("n", 64)
	p := newPod(t, 60, 2, long, `,"runtimeConfig":{"aliases":{"net60":["fine","a..b","sp ace","-"]}}`)
	p.knows(t, "fine", p.v4, p.v6)
	q := newPod(t, 60, 3, "", "")
	p.knows(t, "id60-3", q.v4, q.v6)
	p.Check(t)
	q.Check(t)
}

// On a network without an address of the host's there is nobody to ask. Its names
// are known to those of its containers that have another network.
func TestNoServer(t *testing.T) {
	a := newPod(t, 60, 2, "a", "")
	config := strings.ReplaceAll(strings.ReplaceAll(bridge(61, 2), `"isGateway":true`, `"isGateway":false`), `"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]`, `"routes":[]`)
	inner := a.bridge.Again(t, config, "eth1")
	t.Cleanup(func() { host.Try("ip", "link", "del", "br61") }) //nolint:errcheck // it goes with the host
	inner.Add(t)
	named := inner.Then(t, `{"cniVersion":"1.1.0","name":"net61","type":"dnsname","domainName":"dns.podman"}`)
	named.Args = "K8S_POD_NAME=a"
	result := named.Add(t)
	if len(result.DNS.Nameservers) > 0 || result.DNS.Search[0] != "dns.podman" {
		t.Errorf("the result has %+v", result.DNS)
	}
	named.Check(t)
	peer := attach.New(t, strings.ReplaceAll(config, "0.2/24", "0.3/24"), "peer")
	peer.Config = strings.ReplaceAll(peer.Config, "fd00:61::2/64", "fd00:61::3/64")
	peer.Add(t)
	namedPeer := peer.Then(t, named.Config)
	namedPeer.Args = "K8S_POD_NAME=peer"
	namedPeer.Add(t)
	a.knows(t, "peer", "10.61.0.3", "fd00:61::3")
}
