package portmap_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

const (
	bridged = `{"cniVersion":"1.0.0","name":"net1","type":"bridge","bridge":"cni0","isGateway":true,"hairpinMode":true,"ipMasq":true,"ipam":{"type":"host-local",
		"ranges":[[{"subnet":"10.22.0.0/24"}],[{"subnet":"fd22::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`
	routed = `{"cniVersion":"1.0.0","name":"net1","type":"ptp","ipMasq":true,"ipam":{"type":"host-local",
		"ranges":[[{"subnet":"10.22.0.0/24"}],[{"subnet":"fd22::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`
	plain = `{"cniVersion":"1.0.0","name":"net1","type":"portmap","capabilities":{"portMappings":true}}`
)

// A pod is a container on a network with ports of the host.
type pod struct {
	id, netns, ifName string
	network           string // the interface plugin's configuration
	config            string // portmap's
	bin               string // whose portmap makes it
	prev              string
}

// newPod attaches a container to a network, without its ports.
func newPod(t testing.TB, id, network, config string, ports ...port) *pod {
	t.Helper()
	p := &pod{id: id, netns: host.NetNS(t), ifName: "eth0", network: network, bin: host.Bin(t)}
	p.config = with(t, config, "runtimeConfig", map[string]any{"portMappings": ports})
	host.RunIn(t, p.netns, "ip", "link", "set", "lo", "up")
	out, failure := p.call(t, host.Bin(t), "ADD", p.network)
	if failure != nil {
		t.Fatal(failure)
	}
	p.prev = out
	t.Cleanup(func() {
		p.call(t, host.Bin(t), "DEL", p.after(t))
		p.call(t, host.Bin(t), "DEL", with(t, p.network, "prevResult", json.RawMessage(p.prev)))
	})
	return p
}

type port struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol,omitempty"`
	HostIP        string `json:"hostIP,omitempty"`
}

func with(t testing.TB, config string, pairs ...any) string {
	t.Helper()
	set := make(map[string]any)
	var drop []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			drop = append(drop, pairs[i].(string))
		} else {
			set[pairs[i].(string)] = pairs[i+1]
		}
	}
	data, err := cni.Derive([]byte(config), set, drop...)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// after is portmap's configuration with the result of the network.
func (p *pod) after(t testing.TB) string {
	return with(t, p.config, "prevResult", json.RawMessage(p.prev))
}

func (p *pod) call(t testing.TB, bin, verb, config string) (string, *cni.Error) {
	t.Helper()
	var kind struct{ Type string }
	if err := json.Unmarshal([]byte(config), &kind); err != nil {
		t.Fatal(err)
	}
	path := []string{bin}
	stdout, stderr, exit := host.Plugin(t, bin, kind.Type, host.Env(verb, p.id, p.netns, p.ifName, path...), config)
	if exit == 0 {
		return stdout, nil
	}
	failure, err := cni.DecodeError([]byte(stdout))
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", kind.Type, verb, err, stdout, stderr)
	}
	return "", failure
}

func (p *pod) tryAdd(t testing.TB) *cni.Error {
	t.Helper()
	_, failure := p.call(t, p.bin, "ADD", p.after(t))
	return failure
}

func (p *pod) add(t testing.TB) {
	t.Helper()
	if failure := p.tryAdd(t); failure != nil {
		t.Fatalf("ADD %s: %v", p.id, failure)
	}
}

func (p *pod) check(t testing.TB) {
	t.Helper()
	if _, failure := p.call(t, host.Bin(t), "CHECK", p.after(t)); failure != nil {
		t.Errorf("CHECK %s: %v", p.id, failure)
	}
}

// drifts fails the test unless CHECK reports a difference that says all this.
func (p *pod) drifts(t testing.TB, says ...string) {
	t.Helper()
	_, failure := p.call(t, host.Bin(t), "CHECK", p.after(t))
	if failure == nil || failure.Code != state.CodeDrift {
		t.Errorf("CHECK says %v, want code %d", failure, state.CodeDrift)
		return
	}
	for _, s := range says {
		if !strings.Contains(failure.Error(), s) {
			t.Errorf("CHECK says %v, which does not name %q", failure, s)
		}
	}
}

func (p *pod) del(t testing.TB, config string) {
	t.Helper()
	if _, failure := p.call(t, host.Bin(t), "DEL", config); failure != nil {
		t.Errorf("DEL %s: %v", p.id, failure)
	}
}

// addr is the container's address of a family.
func (p *pod) addr(t testing.TB, is4 bool) string {
	t.Helper()
	result, err := cni.DecodeResult([]byte(p.prev), cni.Latest)
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range result.IPs {
		if ip.Address.Addr().Is4() == is4 {
			return ip.Address.Addr().String()
		}
	}
	t.Fatal("no such address")
	return ""
}

// reaches fails the test unless a connection ends in the pod, and returns where
// from the pod sees it come.
func (p *pod) reaches(t testing.TB, from, network, address string) string {
	t.Helper()
	a, err := host.Ask(t, from, network, address, "")
	if err != nil {
		t.Errorf("%s %s from %q: %v", network, address, from, err)
		return ""
	}
	if a.Server != p.netns {
		t.Errorf("%s %s from %q is answered in %q, want %q", network, address, from, a.Server, p.netns)
	}
	client, _, _ := net.SplitHostPort(a.Client)
	return client
}

func unreachable(t testing.TB, from, network, address string) {
	t.Helper()
	if a, err := host.Ask(t, from, network, address, ""); err == nil {
		t.Errorf("%s %s from %q is answered in %q", network, address, from, a.Server)
	}
}

// left lists everything about mappings: of nftables, the reference's and
// iptables.
func left(t testing.TB) []string {
	t.Helper()
	var list []string
	ruleset := host.NFT(t)
	for _, s := range ruleset.Sets {
		if !strings.HasPrefix(s.Name, "portmap") {
			continue
		}
		for _, e := range s.Elems {
			list = append(list, fmt.Sprintf("%s: %s", s.Name, e.Key))
		}
	}
	for _, r := range ruleset.Rules {
		if r.Table == "cni_hostport" && r.Comment != "" {
			list = append(list, "rule of the reference for "+r.Comment)
		}
	}
	for _, tool := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
		for line := range strings.Lines(host.Run(t, tool, "-t", "nat")) {
			if strings.Contains(line, "CNI-DN-") {
				list = append(list, tool+": "+strings.TrimSpace(line))
			}
		}
	}
	return list
}

func empty(t testing.TB) {
	t.Helper()
	if list := left(t); list != nil {
		t.Errorf("left is %q", list)
	}
}
