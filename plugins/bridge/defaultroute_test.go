package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// metrics returns the metrics of the default routes in a namespace, sorted, with
// the interfaces that they leave by.
func metrics(t testing.TB, ns string, family int) []string {
	t.Helper()
	var list []string
	for _, r := range host.Routes(t, ns, family) {
		if r.Dst == "default" {
			list = append(list, fmt.Sprintf("%s %d", r.Dev, r.Priority))
		}
	}
	slices.Sort(list)
	return list
}

// TestDefaultRoute attaches a container to several networks.
func TestDefaultRoute(t *testing.T) {
	keys.Covers(t, "bridge", "defaultRoute")
	removeBridge(t, "br91", "br92", "br93", "br94")
	host.Internet(t)
	network := func(number int, value, version string) string {
		more := `"isGateway":true,"ipMasq":true,`
		if value != "" {
			more += `"defaultRoute":` + value + ","
		}
		c := config(fmt.Sprintf("net%d", number), fmt.Sprintf("br%d", number), more, hostLocal(t, number))
		return strings.Replace(c, "1.1.0", version, 1)
	}
	for _, version := range []string{"1.1.0", "1.0.0", "0.4.0"} {
		t.Run(version, func(t *testing.T) {
			first := attach.New(t, network(91, `"auto"`, version), "many")
			second := first.Again(t, network(92, `"auto"`, version), "eth1")
			third := first.Again(t, network(93, `"never"`, version), "eth2")
			fourth := first.Again(t, network(94, `50`, version), "eth3")
			all := []*attach.Attachment{first, second, third, fourth}
			var results []*cni.Result
			for _, a := range all {
				results = append(results, a.Add(t))
			}
			for _, want := range []struct {
				family int
				routes []string
			}{
				{4, []string{"eth0 0", "eth1 1", "eth3 50"}},
				{6, []string{"eth0 1024", "eth1 1025", "eth3 50"}},
			} {
				if got := metrics(t, first.NetNS, want.family); !slices.Equal(got, want.routes) {
					t.Errorf("IPv%d: %v, want %v", want.family, got, want.routes)
				}
			}
			if len(results[2].Routes) != 0 {
				t.Errorf("result of never: %+v", results[2].Routes)
			}
			if version == "1.1.0" {
				for i, want := range [][]int{{0, 0}, {1, 1025}, {}, {50, 50}} {
					var got []int
					for _, r := range results[i].Routes {
						got = append(got, r.Priority)
					}
					if !slices.Equal(got, want) {
						t.Errorf("network %d: priorities %v of %+v, want %v", i, got, results[i].Routes, want)
					}
				}
			}
			for _, a := range all {
				a.Check(t)
			}
			// The first network keeps the traffic, and the second takes over.
			fourth.Del(t)
			uses(t, first.NetNS, "10.91.0.", "fd00:91::")
			first.Del(t)
			second.Check(t)
			uses(t, first.NetNS, "10.92.0.", "fd00:92::")
			host.RunIn(t, second.NetNS, "ip", "route", "del", "default")
			if text := second.Drifts(t, 101); !strings.Contains(text, "0.0.0.0/0") {
				t.Errorf("CHECK without the default route: %s", text)
			}
			second.Del(t)
			third.Del(t)
		})
	}
}

// uses needs a namespace to send to strangers from addresses with these
// beginnings, and to be answered.
func uses(t testing.TB, ns string, sources ...string) {
	t.Helper()
	for i, dst := range []string{"203.0.113.1", "2001:db8::1"} {
		if out := host.RunIn(t, ns, "ip", "route", "get", dst); !strings.Contains(out, "src "+sources[i]) {
			t.Errorf("packets to %s do not come from %s: %s", dst, sources[i], out)
		}
		host.Ping(t, ns, []string{host.Internet4, host.Internet6}[i])
	}
}

// TestDefaultRouteOrder adds networks whose default routes are given metrics
// that collide, and one that was there before.
func TestDefaultRouteOrder(t *testing.T) {
	removeBridge(t, "br91", "br92")
	static := func(number int, routes string) string {
		return fmt.Sprintf(`"type":"static","addresses":[{"address":"10.%d.0.2/24","gateway":"10.%d.0.1"}],"routes":[%s]`, number, number, routes)
	}
	a := attach.New(t, config("net91", "br91", "", static(91, `{"dst":"0.0.0.0/0","priority":70},{"dst":"0.0.0.0/0","priority":75,"gw":"10.91.0.9"}`)), "order")
	a.Add(t)
	b := a.Again(t, config("net92", "br92", `"defaultRoute":"auto",`, static(92, `{"dst":"0.0.0.0/0","priority":10},{"dst":"0.0.0.0/0","priority":14,"gw":"10.92.0.9"},{"dst":"10.200.0.0/16","priority":3},{"dst":"0.0.0.0/0","table":7}`)), "eth1")
	b.Add(t)
	want := []string{"eth0 70", "eth0 75", "eth1 76", "eth1 80"}
	if got := metrics(t, a.NetNS, 4); !slices.Equal(got, want) {
		t.Errorf("default routes %v, want %v", got, want)
	}
	if out := host.RunIn(t, a.NetNS, "ip", "route", "show", "table", "7"); !strings.Contains(out, "default via 10.92.0.1") || strings.Contains(out, "metric") {
		t.Errorf("table 7: %s", out)
	}
	b.Check(t)
}

// TestDefaultRouteUnset is as the reference does it: what is added last is used.
func TestDefaultRouteUnset(t *testing.T) {
	removeBridge(t, "br91", "br92")
	for _, bin := range []string{host.Bin(t), host.Reference(t)} {
		a := attach.New(t, config("net91", "br91", `"isGateway":true,`, hostLocal(t, 91)), "both")
		a.Bin = bin
		a.Add(t)
		b := a.Again(t, config("net92", "br92", `"isGateway":true,`, hostLocal(t, 92)), "eth1")
		b.Add(t)
		for family, want := range map[int][]string{4: {"eth0 0", "eth1 0"}} {
			if got := metrics(t, a.NetNS, family); !slices.Equal(got, want) {
				t.Errorf("%s: IPv%d: %v, want %v", bin, family, got, want)
			}
		}
		if out := host.RunIn(t, a.NetNS, "ip", "route", "get", "203.0.113.1"); !strings.Contains(out, "dev eth1") {
			t.Errorf("%s: %s", bin, out)
		}
		b.Del(t)
		a.Del(t)
	}
}

// TestBadDefaultRoute is refused before anything is made.
func TestBadDefaultRoute(t *testing.T) {
	before := host.Snapshot(t)
	for _, tt := range []struct {
		more string
		code cni.Code
		text string
	}{
		{`"defaultRoute":"always",`, cni.CodeInvalidConfig, `defaultRoute: always is neither`},
		{`"defaultRoute":0,`, cni.CodeInvalidConfig, "defaultRoute: 0 is neither"},
		{`"defaultRoute":4294967296,`, cni.CodeInvalidConfig, "4.294967296e+09 is neither"},
		{`"defaultRoute":true,`, cni.CodeInvalidConfig, "true is neither"},
		{`"defaultRoute":"never","isDefaultGateway":true,`, cni.CodeInvalidConfig, "isDefaultGateway"},
	} {
		a := attach.New(t, config("net91", bridgeName, tt.more, hostLocal(t, 91)), "bad")
		if _, failure := a.TryAdd(t); failure == nil || failure.Code != tt.code || !strings.Contains(failure.Error(), tt.text) {
			t.Errorf("%s: %v, want code %d and %q", tt.more, failure, tt.code, tt.text)
		}
	}
	host.Unchanged(t, before)
}
