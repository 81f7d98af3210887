package bandwidth_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

// Containers of the tests have an address of each family, and the host is their
// gateway.
const (
	ptp = `{"cniVersion":"1.1.0","name":"net","type":"ptp","ipam":{"type":"host-local",
		"ranges":[[{"subnet":"10.60.0.0/24"}],[{"subnet":"fd00:60::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`
	bridge = `{"cniVersion":"1.1.0","name":"net","type":"bridge","isDefaultGateway":true,"ipam":{"type":"host-local",
		"ranges":[[{"subnet":"10.62.0.0/24"}],[{"subnet":"fd00:62::/64"}]]}}`
	limits = `"ingressRate":8000000,"ingressBurst":1600000,"egressRate":16000000,"egressBurst":3200000`
)

func bandwidth(keys string) string {
	if keys != "" {
		keys = "," + keys
	}
	return `{"cniVersion":"1.1.0","name":"net","type":"bandwidth"` + keys + `}`
}

// attached returns a container on a network.
func attached(t *testing.T, network, id string) *attach.Attachment {
	t.Helper()
	host.Need(t, "tbf", "ifb", "mirred")
	if strings.Contains(network, `"bridge"`) {
		t.Cleanup(func() { host.Try("ip", "link", "del", "cni0") }) //nolint:errcheck // not every test gets to make it
	}
	a := attach.New(t, network, id)
	a.Add(t)
	return a
}

// A qdisc is one as tc lists it.
type qdisc struct {
	Kind, Handle, Parent string
	Root                 bool
	Options              map[string]any
}

// qdiscs returns those of a link but for the kernel's own.
func qdiscs(t *testing.T, ns, link string) []qdisc {
	t.Helper()
	var all []qdisc
	host.JSONIn(t, ns, &all, "tc", "-j", "qdisc", "show", "dev", link)
	return slices.DeleteFunc(all, func(q qdisc) bool { return q.Handle == "0:" && q.Root })
}

// root returns the discipline at a link's root.
func root(t *testing.T, ns, link string) qdisc {
	t.Helper()
	for _, q := range qdiscs(t, ns, link) {
		if q.Root {
			return q
		}
	}
	return qdisc{}
}

// rate is what tc says of a token bucket, in bytes a second.
func (q qdisc) number(option string) float64 {
	n, _ := q.Options[option].(float64)
	return n
}

// ifbs returns the names of a namespace's devices.
func ifbs(t *testing.T, ns string) []string {
	t.Helper()
	var names []string
	for name, l := range host.Links(t, ns) {
		if l.Kind == "ifb" {
			names = append(names, name)
		}
	}
	return names
}

// TestKeys looks with tc at what each key makes.
func TestKeys(t *testing.T) {
	keys.Covers(t, "bandwidth", "ingressRate", "ingressBurst", "egressRate", "egressBurst")
	keys.Covers(t, "bandwidth", "runtimeConfig.bandwidth.ingressRate", "runtimeConfig.bandwidth.ingressBurst",
		"runtimeConfig.bandwidth.egressRate", "runtimeConfig.bandwidth.egressBurst")
	const none = "4294967295"
	for _, tt := range []struct {
		name, keys      string
		ingress, egress float64 // bytes a second
		in, out         float64 // bursts in bytes
	}{
		{"both", limits, 1e6, 2e6, 2e5, 4e5},
		{"ingress alone", `"ingressRate":8000000,"ingressBurst":1600000`, 1e6, 0, 2e5, 0},
		{"egress alone", `"egressRate":16000000,"egressBurst":3200000`, 0, 2e6, 0, 4e5},
		{"no burst", `"ingressRate":80000000,"egressRate":160000000`, 1e7, 2e7, 5e5, 1e6},
		{"the runtimes' word for none", `"ingressRate":80000000,"ingressBurst":` + none + `,"egressRate":160000000,"egressBurst":` + none, 1e7, 2e7, 5e5, 1e6},
		{"of the runtime", `"runtimeConfig":{"bandwidth":{"ingressRate":8000000,"ingressBurst":1600000,"egressRate":16000000,"egressBurst":3200000}}`, 1e6, 2e6, 2e5, 4e5},
		{"of the runtime in Go's case", `"runtimeConfig":{"bandwidth":{"IngressRate":8000000,"IngressBurst":1600000,"EgressRate":16000000,"EgressBurst":3200000}}`, 1e6, 2e6, 2e5, 4e5},
		{"of the configuration first", limits + `,"runtimeConfig":{"bandwidth":{"ingressRate":7,"egressRate":7}}`, 1e6, 2e6, 2e5, 4e5},
		{"a burst that no packet fits in", `"ingressRate":8000000,"ingressBurst":456`, 1e6, 0, 1518, 0},
		{"none", ``, 0, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := attached(t, ptp, "keys")
			b := a.Then(t, bandwidth(tt.keys))
			result := b.Add(t)
			end := a.HostEnd(t)
			expect := func(what string, q qdisc, rate, burst float64) {
				t.Helper()
				// tc knows the burst as a time, and that to a microsecond.
				if got := q.number("rate"); got != rate || q.number("burst") < burst*0.999 || q.number("burst") > burst*1.001 {
					t.Errorf("%s: %+v, want a rate of %v and a burst of %v", what, q, rate, burst)
				}
			}
			expect("ingress", root(t, "", end), tt.ingress, tt.in)
			devices := ifbs(t, "")
			if (len(devices) == 1) != (tt.egress != 0) {
				t.Fatalf("devices: %v", devices)
			}
			if tt.egress != 0 {
				expect("egress", root(t, "", devices[0]), tt.egress, tt.out)
				if l := host.Links(t, "")[devices[0]]; !l.Up() || l.Alias != "plumb:net/keys/eth0" {
					t.Errorf("device: %+v", l)
				}
				last := result.Interfaces[len(result.Interfaces)-1]
				if last.Name != devices[0] || last.MAC != host.Links(t, "")[devices[0]].MAC || last.Sandbox != "" || last.MTU != 1500 {
					t.Errorf("the result ends with %+v, want %s", last, devices[0])
				}
			}
			host.RunIn(t, a.NetNS, "ping", "-c1", "-W5", "10.60.0.1")
			host.RunIn(t, a.NetNS, "ping", "-c1", "-W5", "fd00:60::1")
			b.Check(t)
			b.Del(t)
			if devices := ifbs(t, ""); len(devices) > 0 {
				t.Errorf("after DEL there are %v", devices)
			}
			b.Del(t)
		})
	}
}

// TestRefusals are mistakes that are told, with nothing left behind.
func TestRefusals(t *testing.T) {
	a := attached(t, ptp, "refused")
	before := host.Snapshot(t)
	for _, tt := range []struct {
		keys string
		code cni.Code
		says string
	}{
		{`"ingressBurst":1000`, cni.CodeInvalidConfig, "ingressBurst is set and ingressRate is not"},
		{`"egressBurst":1000`, cni.CodeInvalidConfig, "egressBurst is set and egressRate is not"},
		{`"egressRate":7`, cni.CodeInvalidConfig, "egressRate 7 is less than a byte a second"},
		{`"egressRate":8,"egressBurst":34359738368`, cni.CodeInvalidConfig, "more than the kernel can count"},
		{`"egressRate":-1`, cni.CodeDecode, "egressRate"},
		{`"egressRate":8000,"unshapedSubnets":["hello"]`, cni.CodeInvalidConfig, `unshapedSubnets: "hello" is not a subnet`},
		{`"egressRate":8000,"shapedSubnets":["10.0.0.0"]`, cni.CodeInvalidConfig, `shapedSubnets: "10.0.0.0" is not a subnet`},
		{`"egressRate":8000,"shapedSubnets":["10.0.0.0/8"],"unshapedSubnets":["fd00::/8"]`, cni.CodeInvalidConfig, "exclude each other"},
	} {
		b := a.Then(t, bandwidth(tt.keys))
		_, failure := b.TryAdd(t)
		if failure == nil || failure.Code != tt.code || !strings.Contains(failure.Error(), tt.says) {
			t.Errorf("%s: %v", tt.keys, failure)
		}
		if status := b.TryStatus(t); status == nil || status.Code != tt.code {
			t.Errorf("%s: STATUS: %v", tt.keys, status)
		}
	}
	alone := a.Again(t, bandwidth(limits), "eth0")
	if _, failure := alone.TryAdd(t); failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Error(), "prevResult is missing") {
		t.Errorf("without prevResult: %v", failure)
	}
	elsewhere := a.Then(t, bandwidth(limits))
	elsewhere.IfName = "eth7"
	if _, failure := elsewhere.TryAdd(t); failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Error(), "no interface eth7") {
		t.Errorf("without the interface: %v", failure)
	}
	host.Unchanged(t, before)
}

// TestFailureIsUndone takes the device's name, so that ADD fails half way.
func TestFailureIsUndone(t *testing.T) {
	a := attached(t, ptp, "undone")
	name := "bwp" + state.Owner{Network: "net", ContainerID: "undone", IfName: "eth0"}.Hash()[:12]
	host.Run(t, "ip", "link", "add", name, "type", "bridge")
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", name) })
	before := host.Snapshot(t)
	_, failure := a.Then(t, bandwidth(limits)).TryAdd(t)
	if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Error(), name+" already exists") {
		t.Errorf("ADD: %v", failure)
	}
	host.Unchanged(t, before)
}

// TestDamage removes each part of the shaping, which CHECK has to name.
func TestDamage(t *testing.T) {
	for i, network := range []string{ptp, bridge} {
		a := attached(t, network, fmt.Sprintf("damaged%d", i))
		for _, tt := range []struct{ name, keys, command, says string }{
			{"ingress limit", limits, "tc qdisc del dev $END root", "$END egress"},
			{"egress limit", limits, "tc qdisc del dev $IFB root", "$IFB egress"},
			{"redirection", limits, "tc filter del dev $END ingress", "$END ingress: redirection to $IFB is none"},
			{"ingress queue", limits, "tc qdisc del dev $END ingress", "$END ingress: redirection to $IFB is none"},
			{"device", limits, "ip link del $IFB", "ifb $IFB is missing"},
			{"device down", limits, "ip link set $IFB down", "$IFB: up is false, want true"},
			{"ingress rate", limits, "tc qdisc change dev $END root tbf rate 9mbit burst 200kb limit 400kb", "rate is 1125000 bytes/s, want 1000000 bytes/s"},
			{"egress rate", limits, "tc qdisc change dev $IFB root tbf rate 9mbit burst 400kb limit 400kb", "rate is 1125000 bytes/s, want 2000000 bytes/s"},
			{"burst", limits, "tc qdisc change dev $END root tbf rate 8mbit burst 100kb limit 400kb", "burst is 102400 µs at the rate, want 200000 µs at the rate"},
			{"filter of a subnet", limits + `,"unshapedSubnets":["10.9.0.0/16"]`, "tc filter del dev $END", "$END egress: filter for 10.9.0.0/16 is none"},
			{"filter of a subnet's replies", limits + `,"shapedSubnets":["10.9.0.0/16"]`, "tc filter del dev $IFB", "$IFB egress: filter for 10.9.0.0/16 is none"},
			{"class", limits + `,"shapedSubnets":["10.9.0.0/16"]`, "tc filter del dev $IFB; tc class del dev $IFB classid $MAJOR:1", "$IFB egress: class is none"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				b := a.Then(t, bandwidth(tt.keys))
				b.Add(t)
				b.Check(t)
				ifb := ifbs(t, "")[0]
				words := strings.NewReplacer("$END", a.HostEnd(t), "$IFB", ifb, "$MAJOR:", root(t, "", ifb).Handle)
				host.Run(t, "sh", "-ec", words.Replace(tt.command))
				if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, words.Replace(tt.says)) {
					t.Errorf("CHECK: %s\nwant %s", got, words.Replace(tt.says))
				}
				b.Del(t)
				if left := qdiscs(t, "", a.HostEnd(t)); len(left) != 0 {
					t.Errorf("DEL has left %+v", left)
				}
			})
		}
	}
}

// TestFairQueueGone removes what is inside of the limits.
func TestFairQueueGone(t *testing.T) {
	host.Need(t, "fq_codel")
	for _, subnets := range []string{``, `,"unshapedSubnets":["10.9.0.0/16"]`} {
		a := attached(t, ptp, "fair")
		b := a.Then(t, bandwidth(limits+subnets))
		b.Add(t)
		for _, link := range []string{a.HostEnd(t), ifbs(t, "")[0]} {
			inside := qdiscs(t, "", link)
			if i := slices.IndexFunc(inside, func(q qdisc) bool { return q.Kind == "fq_codel" }); i < 0 {
				t.Fatalf("%s: %+v", link, inside)
			}
			handle := strings.TrimSuffix(root(t, "", link).Handle, ":")
			host.Run(t, "tc", "qdisc", "replace", "dev", link, "parent", handle+":1", "pfifo")
			if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, link+" egress: queue inside is pfifo, want fq_codel") {
				t.Errorf("CHECK: %s", got)
			}
			host.Run(t, "tc", "qdisc", "replace", "dev", link, "parent", handle+":1", "fq_codel")
			b.Check(t)
		}
		b.Del(t)
		a.Del(t)
	}
}

// TestSubnets sends to two addresses of the host, one of which the limits are not
// for.
func TestSubnets(t *testing.T) {
	keys.Covers(t, "bandwidth", "unshapedSubnets", "shapedSubnets",
		"runtimeConfig.bandwidth.unshapedSubnets", "runtimeConfig.bandwidth.shapedSubnets")
	const slow = `"ingressRate":800000,"ingressBurst":160000,"egressRate":800000,"egressBurst":160000`
	host.Run(t, "ip", "link", "set", "lo", "up")
	for _, addr := range []string{"10.61.1.1/32", "10.61.2.1/32", "fd00:61:1::1/128", "fd00:61:2::1/128"} {
		host.Run(t, "ip", "addr", "add", addr, "dev", "lo")
		t.Cleanup(func() { host.Run(t, "ip", "addr", "del", addr, "dev", "lo") })
	}
	for _, tt := range []struct {
		keys         string
		shaped, free []string
	}{
		{slow + `,"unshapedSubnets":["10.61.1.0/24","fd00:61:1::/48"]`, []string{"10.61.2.1", "fd00:61:2::1"}, []string{"10.61.1.1", "fd00:61:1::1"}},
		{slow + `,"shapedSubnets":["10.61.1.0/24","fd00:61:1::/47"]`, []string{"10.61.1.1", "fd00:61:1::1"}, []string{"10.61.2.1", "fd00:61:2::1"}},
		{`"runtimeConfig":{"bandwidth":{` + slow + `,"unshapedSubnets":["10.61.1.0/24"]}}`, []string{"10.61.2.1"}, []string{"10.61.1.1"}},
		{`"runtimeConfig":{"bandwidth":{` + slow + `,"shapedSubnets":["10.61.1.0/24"]}}`, []string{"10.61.1.1"}, []string{"10.61.2.1"}},
	} {
		a := attached(t, ptp, "subnets")
		b := a.Then(t, bandwidth(tt.keys))
		b.Add(t)
		b.Check(t)
		for _, reverse := range []bool{false, true} {
			for _, to := range tt.shaped {
				if got := sent(t, a.NetNS, to, reverse); got > 1.5e6 {
					t.Errorf("%s: %s (back: %v): %.0f bit/s", tt.keys, to, reverse, got)
				}
			}
			for _, to := range tt.free {
				if got := sent(t, a.NetNS, to, reverse); got < 10e6 {
					t.Errorf("%s: %s (back: %v): %.0f bit/s", tt.keys, to, reverse, got)
				}
			}
		}
		b.Del(t)
		a.Del(t)
	}
}

// sent is how many bits a second arrive over TCP in a second, from the container
// or back.
func sent(t *testing.T, ns, to string, reverse bool) float64 {
	return iperf(t, ns, to, 1, reverse)
}

// iperf measures with iperf3 for some seconds.
func iperf(t *testing.T, ns, to string, seconds int, reverse bool) float64 {
	t.Helper()
	args := []string{"iperf3", "--json", "-c", to, "-p", serve(t), "-t", fmt.Sprint(seconds), "--connect-timeout", "20000"}
	if reverse {
		args = append(args, "-R")
	}
	var report struct {
		Error string
		End   struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	out := host.RunIn(t, ns, "timeout", append([]string{fmt.Sprint(seconds + 60)}, args...)...)
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Error != "" {
		t.Fatalf("iperf3: %v\n%s", err, out)
	}
	return report.End.Received.Bits
}
