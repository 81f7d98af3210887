package static

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

var ctx = context.Background()

func config(version, ipamKeys, more string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"net","type":"x","ipam":{"type":"static",%s},%s}`, version, ipamKeys, more)
}

func request(t *testing.T, version, args, ipamKeys, more string) *plugin.Request {
	t.Helper()
	r, err := plugin.NewRequest(&cni.Request{ContainerID: "c1", IfName: "eth0", Args: args, Config: []byte(config(version, ipamKeys, more))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func show(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%d: %v", cni.AsError(err).Code, err)
}

const none = `"x":0`

// TestAdd compares with the reference, which says the same where it says anything.
func TestAdd(t *testing.T) {
	keys.Covers(t, "static", "ipam.addresses.address", "ipam.addresses.gateway", "ipam.dns.nameservers", "ipam.dns.domain", "ipam.dns.search", "ipam.dns.options",
		"ipam.routes.dst", "ipam.routes.gw", "ipam.routes.mtu", "ipam.routes.advmss", "ipam.routes.priority", "ipam.routes.table", "ipam.routes.scope",
		"CNI_ARGS.IP", "CNI_ARGS.GATEWAY", "args.cni.ips", "runtimeConfig.ips")
	bin, ns := host.Reference(t), host.NetNS(t)
	const one = `"addresses":[{"address":"10.0.0.5/24","gateway":"10.0.0.254"}]`
	for _, c := range []struct{ version, args, ipam, more, want string }{
		{"1.1.0", "", `"addresses":[{"address":"10.0.0.5/24","gateway":"10.0.0.254"},{"address":"fd00::5/64"},{"address":"10.7.0.0/16","gateway":""}],
			"routes":[{"dst":"0.0.0.0/0"},{"dst":"fd01::1/64","gw":"fd00::9","mtu":1400,"advmss":1300,"priority":7,"table":100,"scope":253}],
			"dns":{"nameservers":["192.0.2.1"],"domain":"a.test","search":["b.test"],"options":["ndots:2"]}`, none,
			`{"ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.254"},{"address":"fd00::5/64"},{"address":"10.7.0.0/16"}],
			"routes":[{"dst":"0.0.0.0/0"},{"dst":"fd01::1/64","gw":"fd00::9","mtu":1400,"advmss":1300,"priority":7,"table":100,"scope":253}],
			"dns":{"nameservers":["192.0.2.1"],"domain":"a.test","search":["b.test"],"options":["ndots:2"]}}`},
		{"1.0.0", "", `"addresses":[{"address":"10.0.0.5/32","gateway":"192.0.2.1"}]`, none, `{"ips":[{"address":"10.0.0.5/32","gateway":"192.0.2.1"}]}`},
		{"1.0.0", "", none, none, `{}`},
		{"0.2.0", "", `"addresses":[{"address":"10.0.0.5/24"},{"address":"fd00::5/64"}]`, none, `{"ip4":{"ip":"10.0.0.5/24"},"ip6":{"ip":"fd00::5/64"},"dns":{}}`},
		{"1.0.0", "IP=10.0.0.9/24, fd00::9/64;GATEWAY=fd00::1,10.0.0.1,192.0.2.1", one, none,
			`{"ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.254"},{"address":"10.0.0.9/24","gateway":"10.0.0.1"},{"address":"fd00::9/64","gateway":"fd00::1"}]}`},
		{"1.0.0", "GATEWAY=10.0.0.1", one, none, `{"ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.254"}]}`},
		{"1.0.0", "IP=10.0.0.9/24;X=1;IgnoreUnknown=1", `"routes":[{"dst":"::/0"}]`, `"args":{"cni":{"ips":["10.0.0.7/24","fd00::7/64"]}}`,
			`{"ips":[{"address":"10.0.0.7/24"},{"address":"fd00::7/64"}],"routes":[{"dst":"::/0"}]}`},
		{"1.0.0", "IP=10.0.0.9/24", `"addresses":[{"address":"nonsense"}]`, `"args":{"cni":{"ips":["10.0.0.7/24"]}},"runtimeConfig":{"ips":["10.0.0.8/24"]}`,
			`{"ips":[{"address":"10.0.0.8/24"}]}`},

		{"1.0.0", "", `"addresses":[{"address":"10.0.0.5"}]`, none, `7: ipam.addresses[0].address: "10.0.0.5" is not an address in CIDR notation`},
		{"1.0.0", "", `"addresses":[{"address":"10.0.0.5/24"},{}]`, none, `7: ipam.addresses[1].address: missing`},
		{"1.0.0", "", `"addresses":{}`, none, `6: decode ipam: addresses has to be a list, not an object`},
		{"1.0.0", "", `"addresses":[{"address":"10.0.0.5/24","gateway":"x"}]`, none, `7: ipam.addresses[0].gateway: "x" is not an IP address`},
		{"1.0.0", "", `"dns":[]`, none, `6: decode ipam: dns has to be an object, not a list`},
		{"1.0.0", "", `"routes":[{"dst":"x"}]`, none, `7: ipam.routes[0]: dst: "x" is not`},
		{"0.2.0", "", `"addresses":[{"address":"10.0.0.5/24"},{"address":"10.1.0.5/24"}]`, none, `7: ipam.addresses: more than one address of a family in cniVersion 0.2.0`},
		{"1.0.0", "IP=10.0.0.9", one, none, `4: CNI_ARGS: IP: "10.0.0.9" is not an address in CIDR notation`},
		{"1.0.0", "IP=10.0.0.9/24;GATEWAY=x", one, none, `4: CNI_ARGS: GATEWAY: "x" is not an IP address`},
		{"1.0.0", "X=1", one, none, `4: CNI_ARGS: unknown arguments "X=1"`},
		{"1.0.0", "", one, `"args":{"cni":{"ips":["10.0.0.7"]}}`, `7: args.cni.ips[0]: "10.0.0.7" is not`},
		{"1.0.0", "", one, `"runtimeConfig":{"ips":["10.0.0.7/24","10.0.0.8"]}`, `7: runtimeConfig.ips[1]: "10.0.0.8" is not`},
	} {
		r := request(t, c.version, c.args, c.ipam, c.more)
		result, err := New().Add(ctx, r)
		env := append(host.Env("ADD", "c1", ns, "eth0", bin), "CNI_ARGS="+c.args)
		stdout, _, exit := host.Plugin(t, bin, "static", env, config(c.version, c.ipam, c.more))
		if err != nil {
			if !strings.HasPrefix(show(err), c.want) || exit == 0 {
				t.Errorf("%s %s: got  %s\nwant %s, reference has exit %d", c.ipam, c.args, show(err), c.want, exit)
			}
			if got := show(New().Status(ctx, r)); got != show(err) {
				t.Errorf("%s %s: STATUS %s", c.ipam, c.args, got)
			}
			continue
		}
		got, err := result.Encode(cni.Version(c.version))
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Replace(c.want, "{", fmt.Sprintf(`{"cniVersion":%q,`, c.version), 1); !same(t, string(got), strings.Replace(want, ",}", "}", 1)) || !same(t, string(got), stdout) {
			t.Errorf("%s %s:\ngot %s\nwant %s\nreference has %s", c.ipam, c.args, got, want, stdout)
		}
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	var v, w map[string]any
	for s, into := range map[string]*map[string]any{a: &v, b: &w} {
		if err := json.Unmarshal([]byte(s), into); err != nil {
			t.Fatalf("%v: %s", err, s)
		}
	}
	if a == b {
		return true
	}
	return reflect.DeepEqual(v, w)
}

func TestCheck(t *testing.T) {
	const two = `"addresses":[{"address":"10.0.0.5/24","gateway":"10.0.0.254"},{"address":"fd00::5/64"}]`
	for _, c := range []struct{ more, want string }{
		{`"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"fd00::5/64","gateway":"fd00::1"},{"address":"10.0.0.5/24","gateway":"10.0.0.254"},{"address":"192.0.2.1/24"}]}`, ""},
		{`"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"address":"fd00::5/64"}]}`, "101: network net: gateway of 10.0.0.5/24 is 10.0.0.1, want 10.0.0.254"},
		{`"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.254"}]}`, "101: network net: fd00::5/64 is configured but not in prevResult"},
		{none, "7: network net: CHECK needs a prevResult"},
	} {
		if got := show(New().Check(ctx, request(t, "1.1.0", "", two, c.more))); got != c.want {
			t.Errorf("%s: got %s, want %s", c.more, got, c.want)
		}
	}
	if got := show(New().Check(ctx, request(t, "1.1.0", "", `"addresses":[{}]`, none))); !strings.HasPrefix(got, "7: ") {
		t.Error(got)
	}
}

func TestNothingIsKept(t *testing.T) {
	r := request(t, "1.1.0", "", `"addresses":7`, `"cni.dev/valid-attachments":null`)
	if released, err := New().Del(ctx, r); err != nil || released != nil {
		t.Error(released, err)
	}
	if released, err := New().GC(ctx, r); err != nil || released != nil {
		t.Error(released, err)
	}
}
