// Package crio calls the plugins as CRI-O does, which Debian 12 doesn't have: by libcni, with a list of version 1.1.0; VERSION, STATUS and GC when it
// starts, ADD, CHECK and DEL for a pod; and with an eye of its own on libcni's cache.
package crio

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

func TestMain(m *testing.M) { host.Main(m) }

var ctx = context.Background()

const (
	bridge  = "cni0"
	ifName  = "eth0"
	network = `{"cniVersion":"1.1.0","name":"crio","plugins":[
{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,"capabilities":{"ips":true,"mac":true},
 "ipam":{"type":"host-local","routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}],"ranges":[[{"subnet":"10.85.0.0/16"}],[{"subnet":"1100:200::/24"}]]}},
{"type":"portmap","capabilities":{"portMappings":true}},
{"type":"bandwidth","capabilities":{"bandwidth":true}},
{"type":"firewall"},
{"type":"tuning"}]}`
)

// A crio is what CRI-O has of CNI.
type crio struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
	bin  string
}

// start does what CRI-O does when it starts while these pods are there.
func start(t *testing.T, pods ...*pod) *crio {
	t.Helper()
	list, err := libcni.NetworkConfFromBytes([]byte(network))
	if err != nil {
		t.Fatal(err)
	}
	c := &crio{cni: libcni.NewCNIConfigWithCacheDir([]string{host.Bin(t)}, runtime.DefaultCacheDir, nil), list: list, bin: host.Bin(t)}
	if _, err := c.cni.ValidateNetworkList(ctx, c.list); err != nil { // VERSION
		t.Fatal(err)
	}
	if err := c.cni.GetStatusNetworkList(ctx, c.list); err != nil {
		t.Fatal(err)
	}
	var valid []types.GCAttachment // null without any pods
	for _, p := range pods {
		valid = append(valid, types.GCAttachment{ContainerID: p.id, IfName: ifName})
	}
	if err := c.cni.GCNetworkList(ctx, c.list, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		t.Fatal(err)
	}
	return c
}

// A pod is a sandbox that is to be on the network.
type pod struct {
	id   string
	name string
	ns   string
	port int
}

// sandbox makes a namespace with a server on port 80, which is to be published.
func sandbox(t *testing.T, number int) *pod {
	t.Helper()
	p := &pod{fmt.Sprintf("%064x", 0xc0ffee00+number), fmt.Sprintf("pod-%d", number), host.NetNS(t), 8080 + number}
	for _, network := range []string{"tcp", "udp"} {
		host.Serve(t, p.ns, network, ":80")
	}
	return p
}

// args and capabilities are what CRI-O sends about a pod, in its spelling.
func (p *pod) args() [][2]string {
	return [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", p.name},
		{"K8S_POD_INFRA_CONTAINER_ID", p.id}, {"K8S_POD_UID", "8e1a5a1c-6f3e-4f3f-9d57-" + p.id[52:]},
	}
}

func (p *pod) capabilities() map[string]any {
	var ports []map[string]any
	for _, protocol := range []string{"tcp", "udp"} {
		ports = append(ports, map[string]any{"hostPort": p.port, "containerPort": 80, "protocol": protocol, "hostIP": ""})
	}
	return map[string]any{
		"portMappings": ports,
		"bandwidth":    map[string]any{"ingressRate": 50_000_000, "ingressBurst": 4294967295, "egressRate": 50_000_000, "egressBurst": 4294967295},
		"cgroupPath":   "/kubepods.slice/" + p.name,
		"io.kubernetes.cri.pod-annotations": map[string]string{
			"kubernetes.io/ingress-bandwidth": "50M", "kubernetes.io/egress-bandwidth": "50M",
		},
	}
}

func (p *pod) conf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.id, NetNS: p.ns, IfName: ifName, Args: p.args(), CapabilityArgs: p.capabilities()}
}

func (c *crio) add(t *testing.T, p *pod) *current.Result {
	t.Helper()
	r, err := c.cni.AddNetworkList(ctx, c.list, p.conf())
	if err != nil {
		t.Fatal(err)
	}
	result, err := current.GetResult(r)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (c *crio) check(t *testing.T, p *pod) {
	t.Helper()
	if err := c.cni.CheckNetworkList(ctx, c.list, p.conf()); err != nil {
		t.Errorf("CHECK of %s: %v", p.name, err)
	}
}

func (c *crio) del(t *testing.T, p *pod) {
	t.Helper()
	if err := c.cni.DelNetworkList(ctx, c.list, p.conf()); err != nil {
		t.Errorf("DEL of %s: %v", p.name, err)
	}
}

// works connects to the pod, and from it to the world.
func (p *pod) works(t *testing.T, outside string) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		for _, address := range []string{host.Uplink4, host.Uplink6} {
			node.Answers(t, outside, network, net.JoinHostPort(address, fmt.Sprint(p.port)), p.ns)
		}
	}
	host.Ping(t, p.ns, host.Internet4)
	host.Ping(t, p.ns, host.Internet6)
}

// remembered reads the cache as CRI-O does when it is to tear down a pod that it has no networks of: any file whose name has the ID in it, of the
// kind that it knows, of the container that it means.
func remembered(t *testing.T, p *pod) (networks []string) {
	t.Helper()
	dir := filepath.Join(runtime.DefaultCacheDir, "results")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.Contains(e.Name(), "-"+p.id+"-") {
			continue
		}
		var cached struct {
			Kind        string `json:"kind"`
			ContainerID string `json:"containerId"`
			IfName      string `json:"ifName"`
			NetworkName string `json:"networkName"`
			NetNS       string `json:"netns"`
			Config      []byte `json:"config"`
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = json.Unmarshal(data, &cached)
		}
		if err != nil || cached.Kind != libcni.CNICacheV1 || cached.ContainerID != p.id || cached.IfName != ifName || cached.NetNS != p.ns || !json.Valid(cached.Config) {
			t.Errorf("%s holds %+v, %v", e.Name(), cached, err)
			continue
		}
		networks = append(networks, cached.NetworkName)
	}
	return networks
}

// clean fails the test when more is left than the bridge, and the folders of caches.
func clean(t *testing.T, before host.State) {
	t.Helper()
	node.Clean(t, before, host.SharedBridge(bridge))
}

func TestPods(t *testing.T) {
	outside := host.Internet(t)
	before := host.Snapshot(t)
	c := start(t)
	pods := []*pod{sandbox(t, 0), sandbox(t, 1), sandbox(t, 2)}
	for _, p := range pods {
		result := c.add(t, p)
		if len(result.IPs) != 2 || result.IPs[0].Interface == nil || result.Interfaces[*result.IPs[0].Interface].Sandbox != p.ns {
			t.Errorf("CRI-O can't tell the pod's addresses from %v", result)
		}
		c.check(t, p)
		p.works(t, outside)
		if networks := remembered(t, p); len(networks) != 1 || networks[0] != "crio" {
			t.Errorf("CRI-O reads of %s that it is on %q", p.name, networks)
		}
	}

	// CRI-O is away, and meanwhile one pod goes, and all that is known of another.
	host.RemoveNetNS(t, pods[1].ns)
	lost := filepath.Join(runtime.DefaultCacheDir, "results", "crio-"+pods[2].id+"-"+ifName)
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	c = start(t, pods[0])
	c.check(t, pods[0])
	pods[0].works(t, outside)
	for _, p := range pods[1:] {
		node.Silent(t, outside, "tcp", fmt.Sprintf("%s:%d", host.Uplink4, p.port))
		if networks := remembered(t, p); networks != nil {
			t.Errorf("after GC, CRI-O reads of %s that it is on %q", p.name, networks)
		}
	}
	if links := host.Links(t, pods[2].ns); len(links) != 1 {
		t.Errorf("after GC, a pod that isn't valid has the links %v", links)
	}

	// CHECK compares.
	host.RunIn(t, pods[0].ns, "ip", "route", "del", "default")
	if err := c.cni.CheckNetworkList(ctx, c.list, pods[0].conf()); err == nil || !strings.Contains(err.Error(), "route") {
		t.Errorf("the default route is gone, and CHECK says %v", err)
	}

	c.del(t, pods[0])
	c.del(t, pods[0])
	clean(t, before)
	start(t)
	clean(t, before)
}

// A pod that our runtime library has added is one that CRI-O finds in the cache, checks and tears down; and the other way round.
func TestOneCache(t *testing.T) {
	outside := host.Internet(t)
	before := host.Snapshot(t)
	c := start(t)
	list, err := cni.ParseList([]byte(network))
	if err != nil {
		t.Fatal(err)
	}
	ours := runtime.Runtime{Path: []string{c.bin}}
	attachment := func(p *pod) runtime.Attachment {
		return runtime.Attachment{ContainerID: p.id, NetNS: p.ns, IfName: ifName, Args: p.args(), CapabilityArgs: p.capabilities()}
	}

	p := sandbox(t, 0)
	if _, err := ours.Add(ctx, list, attachment(p)); err != nil {
		t.Fatal(err)
	}
	if networks := remembered(t, p); len(networks) != 1 || networks[0] != "crio" {
		t.Errorf("CRI-O reads of %s that it is on %q", p.name, networks)
	}
	c = start(t, p)
	c.check(t, p)
	p.works(t, outside)
	c.del(t, p)
	clean(t, before)

	p = sandbox(t, 1)
	c.add(t, p)
	if err := ours.Check(ctx, list, runtime.Attachment{ContainerID: p.id, NetNS: p.ns, IfName: ifName}); err != nil {
		t.Error(err)
	}
	if err := ours.Del(ctx, list, runtime.Attachment{ContainerID: p.id, IfName: ifName}); err != nil {
		t.Error(err)
	}
	if networks := remembered(t, p); networks != nil {
		t.Errorf("after our DEL, CRI-O reads of %s that it is on %q", p.name, networks)
	}
	clean(t, before)
}
