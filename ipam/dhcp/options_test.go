package dhcp_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// TestOptions sends and asks for options, and reads in the server's log what came.
func TestOptions(t *testing.T) {
	keys.Covers(t, "dhcp", "ipam.provide.option", "ipam.provide.value", "ipam.provide.fromArg", "ipam.request.option", "ipam.request.skipDefault", "ipam.priority")
	l := newLAN(t)
	server := l.dnsmasq(t, "--dhcp-option=3,10.99.0.1", "--dhcp-option=42,10.99.0.7",
		"--dhcp-option=121,0.0.0.0/0,10.99.0.2,10.50.0.0/16,10.99.0.3", "--dhcp-vendorclass=set:known,plumber")
	d := newDaemon(t)

	t.Run("default", func(t *testing.T) {
		a := l.attach(t, d, `"priority":77`)
		result := a.add(t)
		if len(result.Routes) != 1 || result.Routes[0].Dst.Bits() != 0 || result.Routes[0].GW != netip.MustParseAddr("10.99.0.1") {
			t.Errorf("routes: %+v", result.Routes)
		}
		for _, r := range host.Routes(t, a.netns, 4) {
			if r.Dst == "default" && r.Priority != 77 {
				t.Errorf("metric %d", r.Priority)
			}
		}
	})
	t.Run("provide and request", func(t *testing.T) {
		before := len(server.String())
		a := l.attach(t, d, `"provide":[{"option":"host-name","fromArg":"K8S_POD_NAME"},{"option":"60","value":"plumber"},{"option":12,"fromArg":"ABSENT"}],
			"request":[{"option":"classless-static-routes"},{"option":"42"}]`)
		a.args = "IgnoreUnknown=1;K8S_POD_NAME=web-0"
		result := a.add(t)
		said := server.String()[before:]
		matches(t, said, `client provides name: web-0`)
		matches(t, said, `vendor class: plumber`)
		matches(t, said, `requested options: .*42:ntp-server`)
		matches(t, said, `requested options: 1:netmask, 3:router, `)
		if len(result.Routes) != 2 || result.Routes[0].GW == netip.MustParseAddr("10.99.0.1") {
			t.Errorf("routes: %+v", result.Routes)
		}
		routes := host.Routes(t, a.netns, 4)
		var text []string
		for _, r := range routes {
			text = append(text, r.Dst+" via "+r.Gateway)
		}
		matches(t, strings.Join(text, "\n"), `default via 10\.99\.0\.2`)
		matches(t, strings.Join(text, "\n"), `10\.50\.0\.0/16 via 10\.99\.0\.3`)
		if !strings.Contains(server.leased(t), " web-0 ") {
			t.Errorf("leases:\n%s", server.leased(t))
		}
	})
	t.Run("skipDefault", func(t *testing.T) {
		before := len(server.String())
		a := l.attach(t, d, `"request":[{"skipDefault":true},{"option":"subnet-mask"}]`)
		result := a.add(t)
		if said := server.String()[before:]; strings.Contains(said, "3:router") {
			t.Errorf("asked for a router:\n%s", said)
		}
		if len(result.Routes) != 0 || result.IPs[0].Gateway.IsValid() {
			t.Errorf("result: %+v", result)
		}
	})
}

// TestClientID reads in the server's database what identifies the client: what the reference sends.
func TestClientID(t *testing.T) {
	l := newLAN(t)
	server := l.dnsmasq(t)
	a := l.attach(t, newDaemon(t), "")
	a.add(t)
	id := []string{"00"}
	for _, b := range []byte(a.id + "/net/eth0") {
		id = append(id, string("0123456789abcdef"[b>>4])+string("0123456789abcdef"[b&15]))
	}
	if want := " " + strings.Join(id, ":"); !strings.Contains(server.leased(t), want) {
		t.Errorf("want client%s in\n%s", want, server.leased(t))
	}
}

// TestMAC asks for the address of a hardware address that the interface gets later.
func TestMAC(t *testing.T) {
	keys.Covers(t, "dhcp", "ipam.mac", "args.cni.mac", "runtimeConfig.mac", "CNI_ARGS.MAC")
	l := newLAN(t)
	server := l.dnsmasq(t, "--dhcp-host=02:00:00:00:00:01,10.99.0.201", "--dhcp-host=02:00:00:00:00:02,10.99.0.202",
		"--dhcp-host=02:00:00:00:00:03,10.99.0.203", "--dhcp-host=02:00:00:00:00:04,10.99.0.204")
	d := newDaemon(t)
	const own = `"mac":"02:00:00:00:00:01"`
	for _, c := range []struct {
		name, ipam, args, more, want string
	}{
		{"ipam", own, "", "", "10.99.0.201/24"},
		{"CNI_ARGS", own, "MAC=02:00:00:00:00:02", "", "10.99.0.202/24"},
		{"args", own, "MAC=02:00:00:00:00:02", `"args":{"cni":{"mac":"02:00:00:00:00:03"}}`, "10.99.0.203/24"},
		{"runtimeConfig", own, "MAC=02:00:00:00:00:02", `"args":{"cni":{"mac":"02:00:00:00:00:03"}},"runtimeConfig":{"mac":"02:00:00:00:00:04"}`, "10.99.0.204/24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var more []string
			if c.more != "" {
				more = append(more, c.more)
			}
			a := l.attach(t, d, c.ipam, more...)
			a.args = c.args
			result := a.add(t)
			if got := result.IPs[0].Address.String(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if c.name == "ipam" { // as a chained tuning would
				host.RunIn(t, a.netns, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:01")
				host.RunIn(t, a.netns, "ping", "-c1", "-W3", "10.99.0.1")
			}
			a.del(t)
			until(t, "a release", func() bool { return !server.has(t, "10.99.0.20") })
		})
	}
}

// TestIPv6Only asks for no IPv4 address.
func TestIPv6Only(t *testing.T) {
	keys.Covers(t, "dhcp", "ipam.ipv4")
	l := newLAN(t)
	server := l.dnsmasq(t, v6()...)
	a := l.attach(t, newDaemon(t), `"ipv4":false,"ipv6":true`)
	result := a.add(t)
	if len(result.IPs) != 1 || !result.IPs[0].Address.Addr().Is6() {
		t.Errorf("result: %+v", result.IPs)
	}
	if server.count("DHCPDISCOVER(srv)") != 0 {
		t.Error("IPv4 was asked for")
	}
}

// TestRefused gives what can't be acted on.
func TestRefused(t *testing.T) {
	l := newLAN(t)
	d := newDaemon(t)
	for _, c := range []struct{ ipam, want string }{
		{`"request":[{"option":"no-such"}]`, `ipam\.request\[0\]\.option: "no-such" is not an option`},
		{`"provide":[{"option":"256","value":"x"}]`, `ipam\.provide\[0\]\.option: "256"`},
		{`"provide":[{"option":"53","value":"x"}]`, `option 53 belongs to the protocol`},
		{`"provide":[{"option":"12","value":"` + strings.Repeat("x", 256) + `"}]`, `256 bytes`},
		{`"priority":-1`, `ipam\.priority: -1 is negative`},
		{`"ipv4":false`, `neither family`},
		{`"mac":"01:00:00:00:00:01"`, `ipam\.mac`},
		{`"provide":{}`, `decode ipam: provide has to be a list, not an object`},
		{`"provide":[{"option":[]}]`, `decode ipam: provide.option has to be a string, not a list`},
	} {
		a := l.attach(t, d, c.ipam)
		before := host.Snapshot(t)
		_, failure := a.call(t, "ADD", a.config)
		if failure == nil || failure.Code != cni.CodeInvalidConfig && failure.Code != cni.CodeDecode {
			t.Errorf("%s: %v", c.ipam, failure)
			continue
		}
		matches(t, failure.Msg, c.want)
		host.Unchanged(t, before, host.SharedBridge(l.bridge))
	}
}
