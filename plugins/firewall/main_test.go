package firewall_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// wipe empties the packet filter now and at the test's end.
func wipe(t testing.TB) {
	t.Helper()
	clean := func() {
		host.Run(t, "nft", "flush", "ruleset")
		for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
			host.Run(t, tool, "-P", "FORWARD", "ACCEPT")
			host.Run(t, tool, "-F")
			host.Run(t, tool, "-X")
		}
	}
	clean()
	t.Cleanup(clean)
}

// A pod is a container on a bridge with an address of each family, and the
// firewall plugin behind that.
type pod struct {
	*attach.Attachment // of the firewall plugin
	bridge             *attach.Attachment
	v4, v6             string
}

// newPod attaches a container to a bridge, and not yet to the firewall. keys
// are further ones of the firewall plugin, each after a comma. The number tells
// its network, and id its container.
func newPod(t testing.TB, number int, id int, keys string) *pod {
	t.Helper()
	name := fmt.Sprintf("net%d", number)
	p := &pod{v4: fmt.Sprintf("10.%d.0.%d", number, id), v6: fmt.Sprintf("fd00:%d::%d", number, id)}
	p.bridge = attach.New(t, fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"type":"bridge","bridge":"br%d","isGateway":true,"ipMasq":true,"ipMasqBackend":"nftables",
		"ipam":{"type":"static","addresses":[{"address":"%s/24","gateway":"10.%d.0.1"},{"address":"%s/64","gateway":"fd00:%d::1"}],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`, name, number, p.v4, number, p.v6, number), fmt.Sprintf("id%d", id))
	t.Cleanup(func() { host.Try("ip", "link", "del", fmt.Sprintf("br%d", number)) }) //nolint:errcheck // another test's pod may have done it
	p.bridge.Add(t)
	config := fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"type":"firewall"%s}`, name, keys)
	p.Attachment = &attach.Attachment{
		Config: attach.Derive(t, config, map[string]any{"prevResult": p.bridge.Prev}),
		ID:     p.bridge.ID, NetNS: p.bridge.NetNS, IfName: "eth0", Bin: p.bridge.Bin,
	}
	t.Cleanup(func() { p.TryDel(t) })
	return p
}

// forget makes the pod's runtime know no result.
func (p *pod) forget(t testing.TB) {
	t.Helper()
	var config map[string]any
	if err := json.Unmarshal([]byte(p.Config), &config); err != nil {
		t.Fatal(err)
	}
	delete(config, "prevResult")
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p.Config, p.Prev = string(data), nil
}

// with returns the pod's attachment with other keys, and with the plugins of
// another folder unless that is empty.
func (p *pod) with(t testing.TB, keys map[string]any, bin string) *attach.Attachment {
	t.Helper()
	a := *p.Attachment
	a.Config = attach.Derive(t, a.Config, keys)
	if bin != "" {
		a.Bin = bin
	}
	return &a
}

// hears tells in which families an address answers. Where it is expected to
// answer in none it is not waited for long.
func hears(ns, expected string, addresses ...string) string {
	patience := "2"
	if expected == "" {
		patience = "0.3"
	}
	heard := make([]string, len(addresses))
	var group sync.WaitGroup
	for i, a := range addresses {
		group.Go(func() {
			if _, err := host.TryIn(ns, "ping", "-n", "-c", "1", "-W", patience, a); err == nil {
				heard[i] = []string{"4", "6"}[i]
			}
		})
	}
	group.Wait()
	return strings.Trim(strings.Join(heard, "+"), "+")
}

// hearsInternet fails the test unless the Internet answers in these families.
func (p *pod) hearsInternet(t testing.TB, when, want string) {
	t.Helper()
	if got := hears(p.NetNS, want, host.Internet4, host.Internet6); got != want {
		t.Errorf("%s: of the Internet %q is heard, want %q", when, got, want)
	}
}

// hears fails the test unless another container answers in these families.
func (p *pod) hears(t testing.TB, q *pod, when, want string) {
	t.Helper()
	if got := hears(p.NetNS, want, q.v4, q.v6); got != want {
		t.Errorf("%s: of %s %q is heard, want %q", when, q.v4, got, want)
	}
}

// mentions returns the lines of the host's state that hold one of the texts.
func mentions(t testing.TB, texts ...string) (lines []string) {
	t.Helper()
	for _, line := range host.Snapshot(t) {
		if strings.HasPrefix(line, "addr") || strings.HasPrefix(line, "link") || strings.HasPrefix(line, "route") || strings.Contains(line, "neigh") {
			continue
		}
		if strings.Contains(line, "masq") {
			continue // the bridge's
		}
		if slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(line, s) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

// gone fails the test if the host's packet filter still knows the pod.
func (p *pod) gone(t testing.TB) {
	t.Helper()
	for _, line := range mentions(t, p.v4+" ", p.v4+"/32", p.v6+" ", p.v6+"/128", "/"+p.ID+"/") {
		t.Errorf("left: %s", line)
	}
}

// hide makes a file of the host be none until the test ends.
func hide(t testing.TB, path string) {
	t.Helper()
	if err := syscall.Mount("/dev/null", path, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func script(t testing.TB, text string) {
	t.Helper()
	host.Run(t, "sh", "-ec", text)
}
