package containerd

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// What the network is made of.
const (
	networkName = "pods"
	bridge      = "cri0"
	subnet4     = "10.220.0.0/24"
	subnet6     = "fd00:220::/64"
	gateway4    = "10.220.0.1"
	gateway6    = "fd00:220::1"
)

// network returns a list as nodes have it, of that version of the specification.
func network(version string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":%q,"plugins":[
{"type":"bridge","bridge":%q,"isGateway":true,"ipMasq":true,"hairpinMode":true,"capabilities":{"dns":true,"ips":true,"mac":true},
 "ipam":{"type":"host-local","ranges":[[{"subnet":%q}],[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
{"type":"portmap","snat":true,"capabilities":{"portMappings":true}},
{"type":"bandwidth","capabilities":{"bandwidth":true}},
{"type":"firewall"},
{"type":"tuning","sysctl":{"net.core.somaxconn":"500"}}]}`, version, networkName, bridge, subnet4, subnet6)
}

// fused returns a list with all of its plugins in one.
func fused(t testing.TB, list string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "list.conflist")
	write(t, file, list)
	host.Run(t, filepath.Join(host.Bin(t), "plumb"), "fuse", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// clean fails the test when a pod has left anything on the host.
func clean(t testing.TB, before host.State) {
	t.Helper()
	node.Clean(t, before, host.SharedBridge(bridge))
}

// The versions of lists that nodes have (containerd 1.6 knows none after 1.0.0), and one whose plugins are called in one process. Kubernetes wants packets on bridges to pass the packet filter
// twice, which is the kernel's default.
func TestPod(t *testing.T) {
	for _, kind := range []struct{ name, list, bridgeNF string }{
		{"1.0.0", network("1.0.0"), "1"}, {"0.4.0", network("0.4.0"), "0"}, {"fused", fused(t, network("1.0.0")), "1"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			outside := host.Internet(t)
			filterBridges(t, kind.bridgeNF)
			before := host.Snapshot(t)
			c := install(t, node.Ours(t), kind.list)
			config := c.sandbox("web",
				publish(cri.Protocol_TCP, "", 8080), publish(cri.Protocol_UDP, "0.0.0.0", 8080), publish(cri.Protocol_UDP, "::", 8080),
				publish(cri.Protocol_TCP, host.Uplink4, 8081), publish(cri.Protocol_TCP, "127.0.0.1", 8082))
			config.DnsConfig = &cri.DNSConfig{Servers: []string{host.Internet4}, Searches: []string{"example.test"}, Options: []string{"ndots:2"}}
			web := c.run(t, config)
			neighbour := c.run(t, c.sandbox("neighbour"))

			addressed(t, web)
			published(t, web, neighbour, outside, kind.bridgeNF == "0")
			masqueraded(t, web, outside)
			shell := web.container(t)
			inside(t, web, shell, outside)

			// Stopped, a pod is off its network, though containerd still knows it.
			for range 2 { // a kubelet stops again what it isn't sure of
				if err := c.stop(web.id); err != nil {
					t.Error(err)
				}
			}
			for _, network := range []string{"tcp", "udp"} {
				node.Silent(t, "", network, host.Uplink4+":8080")
				node.Silent(t, outside, network, net.JoinHostPort(host.Uplink6, "8080"))
			}
			if err := c.remove(web.id); err != nil {
				t.Error(err)
			}
			masqueraded(t, neighbour, outside)
			neighbour.end(t)
			clean(t, before)
		})
	}
}

// filterBridges says whether iptables and nftables see what a bridge forwards, where the kernel can do that at all.
func filterBridges(t *testing.T, value string) {
	t.Helper()
	switches, err := filepath.Glob("/proc/sys/net/bridge/bridge-nf-call-ip*tables")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range switches {
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, value)
		t.Cleanup(func() { write(t, path, string(was)) })
	}
}

// addressed compares what containerd says of a pod's addresses with what is in its namespace.
func addressed(t *testing.T, p *pod) {
	t.Helper()
	var there []string
	for _, a := range host.Addrs(t, p.ns) {
		if a.Scope != "global" {
			continue
		}
		there = append(there, a.Prefix.Addr().String())
		if a.Tentative {
			t.Errorf("pod %s can't use %s yet", p.config.Metadata.Name, a.Prefix)
		}
	}
	if len(there) != 2 || !slices.Equal(there, p.ips) {
		t.Errorf("pod %s has the addresses %v, and containerd says %v; want one of each family", p.config.Metadata.Name, there, p.ips)
	}
	for i, subnet := range []string{subnet4, subnet6} {
		if i < len(there) && !netip.MustParsePrefix(subnet).Contains(netip.MustParseAddr(there[i])) {
			t.Errorf("pod %s has %s, which isn't of %s", p.config.Metadata.Name, there[i], subnet)
		}
	}
	if lo := host.Links(t, p.ns)["lo"]; !lo.Up() {
		t.Errorf("lo of pod %s is not up", p.config.Metadata.Name)
	}
}

// published connects to the pod's ports from everywhere, and from the host by ::1 if the kernel can do that.
func published(t *testing.T, web, neighbour *pod, outside string, loopback6 bool) {
	t.Helper()
	const name = "web"
	uplink6 := func(port string) string { return net.JoinHostPort(host.Uplink6, port) }
	for _, network := range []string{"tcp", "udp"} {
		for _, from := range []string{outside, "", neighbour.ns, web.ns} { // the last is the hairpin
			node.Answers(t, from, network, host.Uplink4+":8080", name)
			node.Answers(t, from, network, uplink6("8080"), name)
		}
		node.Answers(t, "", network, "127.0.0.1:8080", name)
		if loopback6 {
			node.Answers(t, "", network, "[::1]:8080", name)
		}
		// Straight to the pod, and to itself.
		for _, from := range []string{"", neighbour.ns, web.ns} {
			for _, ip := range web.ips {
				node.Answers(t, from, network, net.JoinHostPort(ip, "80"), name)
			}
		}
		// The pod sees who asks.
		for _, address := range []string{host.Uplink4 + ":8080", uplink6("8080")} {
			if a := node.Answers(t, outside, network, address, name); strings.HasPrefix(a.Client, "10.220.") || strings.HasPrefix(a.Client, "[fd00:220:") {
				t.Errorf("%s %s from outside: the pod sees it come from %s", network, address, a.Client)
			}
		}
	}
	node.Answers(t, outside, "tcp", host.Uplink4+":8081", name)
	node.Silent(t, outside, "tcp", uplink6("8081"))
	node.Silent(t, "", "tcp", "127.0.0.1:8081")
	node.Answers(t, "", "tcp", "127.0.0.1:8082", name)
	node.Silent(t, outside, "tcp", host.Uplink4+":8082")
}

// masqueraded connects from the pod to the world outside, which knows the host's addresses only.
func masqueraded(t *testing.T, p *pod, outside string) {
	t.Helper()
	for _, family := range []struct{ version, server, uplink string }{{"4", host.Internet4, host.Uplink4}, {"6", host.Internet6, host.Uplink6}} {
		for _, network := range []string{"tcp" + family.version, "udp" + family.version} {
			server := host.Serve(t, outside, network, net.JoinHostPort(family.server, "0"))
			answer, err := host.Ask(t, p.ns, network, server, "")
			if err != nil {
				t.Errorf("pod %s: %s %s: %v", p.config.Metadata.Name, network, server, err)
				continue
			}
			if ip, _, _ := net.SplitHostPort(answer.Client); ip != family.uplink {
				t.Errorf("pod %s: %s arrives from %s, want %s", p.config.Metadata.Name, network, answer.Client, family.uplink)
			}
		}
		host.Ping(t, p.ns, family.server)
	}
}

// inside looks at the network as a program in the pod does.
func inside(t *testing.T, p *pod, shell, outside string) {
	t.Helper()
	resolvConf := p.exec(t, shell, "cat", "/etc/resolv.conf")
	for _, want := range []string{"nameserver " + host.Internet4, "search example.test", "options ndots:2"} {
		if !slices.Contains(strings.Split(resolvConf, "\n"), want) {
			t.Errorf("resolv.conf has no line %q:\n%s", want, resolvConf)
		}
	}
	resolver(t, outside, "db.example.test", "192.0.2.80")
	if said := p.exec(t, shell, "nslookup", "-type=a", "db.example.test"); !strings.Contains(said, "192.0.2.80") {
		t.Errorf("a name that only the pod's resolver knows:\n%s", said)
	}
	if n := strings.TrimSpace(p.exec(t, shell, "cat", "/proc/sys/net/core/somaxconn")); n != "500" {
		t.Errorf("somaxconn is %s in the pod, want 500", n)
	}
	for _, address := range []string{host.Internet4, host.Internet6} {
		_, port, _ := net.SplitHostPort(host.Serve(t, outside, "tcp", net.JoinHostPort(address, "0")))
		var answer host.Answer
		said := p.exec(t, shell, "nc", "-w", "5", address, port)
		if err := json.Unmarshal([]byte(said), &answer); err != nil || answer.Server != outside {
			t.Errorf("nc %s %s in the pod says %q", address, port, said)
		}
	}
}

// resolver starts a name server in the namespace ns that knows one name.
func resolver(t *testing.T, ns, name, address string) {
	t.Helper()
	server := exec.Command("nsenter", "--net="+ns, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
		"--user=root", "--pid-file="+filepath.Join(t.TempDir(), "pid"), "--address=/"+name+"/"+address)
	if err := server.Start(); err != nil {
		t.Fatalf("%v: scripts/deps installs it", err)
	}
	t.Cleanup(func() {
		server.Process.Kill() //nolint:errcheck // it has ended: Wait says so
		server.Wait()         //nolint:errcheck // killed
	})
	listens(t, ns, "-u", "53")
}

// listens waits until somebody in the namespace ns listens on a port; kind is -t or -u, as ss has it.
func listens(t *testing.T, ns, kind, port string) {
	t.Helper()
	node.Eventually(t, func() error {
		if out, err := host.TryIn(ns, "ss", "-Hln", kind, "sport", "=", ":"+port); err != nil || out == "" {
			return fmt.Errorf("nobody listens on port %s: %v", port, err)
		}
		return nil
	})
}

// The kubelet's annotations become limits.
func TestBandwidth(t *testing.T) {
	outside := host.Internet(t)
	before := host.Snapshot(t)
	c := install(t, node.Ours(t), network("1.0.0"))
	config := c.sandbox("slow")
	config.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "20M", "kubernetes.io/egress-bandwidth": "10M"}
	slow := c.run(t, config)
	free := c.run(t, c.sandbox("free"))

	for prefix, want := range map[string]float64{"veth": 20e6, "bwp": 10e6} {
		if got := limit(t, slow.link(t, prefix)); got != want {
			t.Errorf("the kernel limits %s to %.0f bit/s, want %.0f", slow.link(t, prefix), got, want)
		}
	}
	if got := limit(t, free.link(t, "veth")); got != 0 {
		t.Errorf("a pod without annotations is limited to %.0f bit/s", got)
	}
	for _, direction := range []struct {
		server, option string
		want           float64
	}{{host.Internet4, "--reverse", 20e6}, {host.Internet6, "--reverse", 20e6}, {host.Internet4, "", 10e6}, {host.Internet6, "", 10e6}} {
		got := transfer(t, outside, slow.ns, direction.server, direction.option)
		t.Logf("%s %s: %.1f Mbit/s of %.0f", direction.server, direction.option, got/1e6, direction.want/1e6)
		if got < 0.7*direction.want || got > 1.3*direction.want {
			t.Errorf("%s %s: TCP achieves %.1f Mbit/s, want %.0f", direction.server, direction.option, got/1e6, direction.want/1e6)
		}
	}
	if got := transfer(t, outside, free.ns, host.Internet4, ""); got < 100e6 {
		t.Errorf("a pod without annotations achieves %.1f Mbit/s", got/1e6)
	}
	slow.end(t)
	free.end(t)
	clean(t, before)
}

// limit is what tc says a link lets through in bit/s, 0 if there is no limit.
func limit(t *testing.T, dev string) float64 {
	t.Helper()
	var qdiscs []struct {
		Kind    string
		Options struct{ Rate float64 } // in bytes
	}
	host.JSON(t, &qdiscs, "tc", "-j", "qdisc", "show", "dev", dev)
	for _, q := range qdiscs {
		if q.Kind == "tbf" {
			return q.Options.Rate * 8
		}
	}
	return 0
}

// transfer measures what TCP achieves in bit/s from the namespace ns to the server outside, or back with the option --reverse of iperf3.
func transfer(t *testing.T, outside, ns, server, option string) float64 {
	t.Helper()
	_, port, err := net.SplitHostPort(freePort(t, outside))
	if err != nil {
		t.Fatal(err)
	}
	iperf := exec.Command("nsenter", "--net="+outside, "iperf3", "--server", "--one-off", "--port", port)
	if err := iperf.Start(); err != nil {
		t.Fatalf("%v: scripts/deps installs it", err)
	}
	t.Cleanup(func() {
		iperf.Process.Kill() //nolint:errcheck // it has ended by itself, if the test went well
		iperf.Wait()         //nolint:errcheck // its status says nothing
	})
	listens(t, outside, "-t", port)
	// The first second, in which the bucket is still full, doesn't count.
	args := []string{"--client", server, "--port", port, "--json", "--omit", "1", "--time", "2"}
	if option != "" {
		args = append(args, option)
	}
	var report struct {
		End struct {
			SumReceived struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	host.JSONIn(t, ns, &report, "iperf3", args...)
	return report.End.SumReceived.BitsPerSecond
}

// freePort returns an address in the namespace ns that nobody listens on.
func freePort(t *testing.T, ns string) string {
	t.Helper()
	var address string
	err := host.In(t, ns, func() error {
		free, err := net.Listen("tcp", ":0")
		if err != nil {
			return err
		}
		address = free.Addr().String()
		return free.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return address
}
