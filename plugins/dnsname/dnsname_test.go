package dnsname_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// Containers of a network find each other by name and alias, in both families,
// and names by addresses; the last one to go takes all with it.
func TestNames(t *testing.T) {
	keys.Covers(t, "dnsname", "domainName", "runtimeConfig.aliases", "CNI_ARGS.K8S_POD_NAME")
	before := host.Snapshot(t)
	web := newPod(t, 60, 2, "Web", `,"runtimeConfig":{"aliases":{"net60":["www","3e95caa5874d","no name"],"net61":["other"]}}`)
	db := newPod(t, 60, 3, "my_db.1", "")
	for _, name := range []string{"web", "WEB.", "web.dns.podman", "wEb.DNS.podman.", "www", "www.dns.podman", "3e95caa5874d"} {
		db.knows(t, name, web.v4, web.v6)
	}
	web.knows(t, "my_db.1", db.v4, db.v6)
	web.knows(t, "my_db.1.dns.podman", db.v4, db.v6)
	web.knows(t, "web", web.v4, web.v6)
	for server, name := range map[string]string{web.v4: "web.dns.podman.", web.v6: "web.dns.podman.", db.v4: "my_db.1.dns.podman."} {
		if got := db.short(t, db.server4(), "-x", server); got != name {
			t.Errorf("%s is %q, want %q", server, got, name)
		}
	}
	for _, tt := range []struct{ name, kind, want string }{
		{"other.dns.podman", "A", "NXDOMAIN"}, // the alias on another network
		{"nobody.dns.podman", "AAAA", "NXDOMAIN"},
		{"web.dns.podman", "MX", "NOERROR"},
		{"web", "TXT", "NOERROR"},
		{"dns.podman", "A", "NOERROR"},
		{"9.0.60.10.in-addr.arpa", "PTR", "NXDOMAIN"},
	} {
		if got := db.status(t, db.server4(), tt.name, tt.kind); got != tt.want {
			t.Errorf("%s %s is %s, want %s", tt.name, tt.kind, got, tt.want)
		}
	}
	// The name in the answer is that of the question, and nothing may be kept.
	if out := db.dig(t, "@"+db.server4(), "wEb.dns.podman"); !strings.Contains(out, "wEb.dns.podman.\t\t0\tIN\tA\t"+web.v4) || !strings.Contains(out, "flags: qr aa rd ra") {
		t.Errorf("dig says\n%s", out)
	}
	if out := db.dig(t, "@"+db.server4(), "nobody.dns.podman"); !strings.Contains(out, "dns.podman.\t\t0\tIN\tSOA") {
		t.Errorf("dig says\n%s", out)
	}

	result := decode(t, web)
	if want := []string{web.server4(), web.server6()}; !slices.Equal(result.DNS.Nameservers, want) || !slices.Equal(result.DNS.Search, []string{"dns.podman"}) {
		t.Errorf("the result has %+v", result.DNS)
	}
	web.Check(t)
	web.Add(t)
	web.Check(t)
	db.knows(t, "web", web.v4, web.v6)
	resolver(t)

	web.Del(t)
	web.Del(t)
	if got := db.status(t, db.server4(), "web.dns.podman", "A"); got != "NXDOMAIN" {
		t.Errorf("after DEL its name is %s", got)
	}
	if got := db.status(t, db.server4(), "-x", web.v4); got != "NXDOMAIN" {
		t.Errorf("after DEL its address is %s", got)
	}
	db.Del(t)
	nothing(t)
	db.bridge.Del(t)
	web.bridge.Del(t)
	host.Unchanged(t, before, host.SharedBridge("br60"), host.SharedFiles, host.SharedForwarding)
}
