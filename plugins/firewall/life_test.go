package firewall_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// CHECK fails after each kind of damage, and names what is missing; ADD mends it.
func TestDamage(t *testing.T) {
	rule := func(tool, text string) string {
		return fmt.Sprintf("%s -S | grep -e '%s' | sed 's/^-A/%s -D/' | sh", tool, text, tool)
	}
	for _, x := range []struct{ keys, closed, damage, names string }{
		{"", "", rule("iptables", "-s 10.70.0.2/32"), "CNI-FORWARD rule is missing, want -s 10.70.0.2"},
		{"", "", rule("ip6tables", "-d fd00:70::2/128"), "CNI-FORWARD rule is missing, want -d fd00:70::2"},
		{"", "", rule("iptables", "A FORWARD.*CNI-FORWARD"), "chain FORWARD rule is missing"},
		{"", "", rule("ip6tables", "CNI-ADMIN"), "-j CNI-ADMIN"},
		{"", "", "nft delete table ip filter", "chain FORWARD is missing"},
		{"", "iptables-legacy policy", rule("iptables-legacy", "-s 10.70.0.2/32"), "iptables-legacy ip filter chain CNI-FORWARD rule is missing"},
		{"", "nft policy", "nft flush chain inet strict f", "rule of chain inet strict f is missing"},
		{"", "nft policy", "nft flush chain inet strict plumb-forward-accept", "what is in chain inet strict plumb-forward-accept is different (0 rules), want the 6 rules"},
		{"", "nft policy", "nft delete element inet strict plumb-accept4 '{ 10.70.0.2 }'", "element inet strict plumb-accept4 10.70.0.2 is missing"},
		{"", "nft policy", "nft add rule inet strict f drop; nft delete rule inet strict f handle $(nft -a list chain inet strict f | grep plumb | sed 's/.*handle //')", "rule of chain inet strict f is missing"},
		{`,"backend":"nftables"`, "", "nft delete element inet plumb accept6 '{ fd00:70::2 }'", "element inet plumb accept6 fd00:70::2 is missing"},
		{`,"backend":"nftables"`, "", "nft delete rule inet plumb forward handle $(nft -a list chain inet plumb forward | grep jump | sed 's/.*handle //')", "rule of chain inet plumb forward is missing"},
		{`,"backend":"nftables"`, "", "nft flush chain inet plumb forward-accept", "what is in chain inet plumb forward-accept is different (0 rules), want the 6 rules"},
		{`,"backend":"nftables"`, "", "nft delete table inet plumb", "table inet plumb is missing"},
		{`,"backend":"nftables"`, "", "nft add table inet plumb '{ flags dormant; }'", "dormant"},
		{`,"backend":"nftables"`, "iptables-nft rule", rule("iptables", "-s 10.70.0.2/32"), "CNI-FORWARD rule is missing"},
		{`,"ingressPolicy":"same-bridge"`, "", rule("iptables", "A FORWARD.*STAGE-1"), "CNI-ISOLATION-STAGE-1"},
		{`,"ingressPolicy":"same-bridge"`, "", rule("ip6tables", "o br70"), "-i br70 ! -o br70"},
		{`,"ingressPolicy":"isolated"`, "", "ip link set $(ip -br link show master br70 | cut -d@ -f1) type bridge_slave isolated off", "isolated is false"},
		{`,"ingressPolicy":"isolated","backend":"nftables"`, "", "nft flush set inet plumb isolated", "element inet plumb isolated"},
		{`,"ingressPolicy":"same-bridge","backend":"nftables"`, "", "nft flush set inet plumb guarded", "element inet plumb guarded"},
		{`,"ingressPolicy":"same-bridge","backend":"nftables"`, "", "nft flush chain inet plumb isolation", "chain inet plumb isolation"},
	} {
		t.Run(x.keys+x.damage, func(t *testing.T) {
			wipe(t)
			if x.closed != "" {
				script(t, closed[x.closed])
			}
			p := newPod(t, 70, 2, x.keys)
			p.Add(t)
			p.Check(t)
			before := host.NFT(t)
			script(t, x.damage)
			if got := p.Drifts(t, state.CodeDrift); !strings.Contains(got, x.names) {
				t.Errorf("CHECK says %q, want %q", got, x.names)
			}
			p.Add(t)
			p.Check(t)
			if after := host.NFT(t); len(after.Rules) > len(before.Rules)+1 {
				t.Errorf("rules were %v and are %v", before.Rules, after.Rules)
			}
			p.Del(t)
			p.gone(t)
		})
	}
}

// DEL removes everything, whatever has happened since.
func TestDel(t *testing.T) {
	for _, backend := range []string{"", "nftables", "iptables"} {
		for how, prepare := range map[string]func(t *testing.T, p *pod){
			"as it is":           func(*testing.T, *pod) {},
			"without namespace":  func(t *testing.T, p *pod) { host.RemoveNetNS(t, p.NetNS) },
			"with none named":    func(_ *testing.T, p *pod) { p.NetNS = "" },
			"without prevResult": func(t *testing.T, p *pod) { p.forget(t) },
			"without record":     func(t *testing.T, _ *pod) { script(t, "rm /run/plumb/attachments/firewall@net70@id2@*") },
			"without record and prevResult": func(t *testing.T, p *pod) {
				script(t, "rm /run/plumb/attachments/firewall@net70@id2@*")
				p.forget(t)
			},
			"edited": func(t *testing.T, p *pod) {
				p.Config = attach.Derive(t, p.Config, map[string]any{"backend": "nftables", "iptablesAdminChainName": "OTHER", "prevResult": nil})
				p.Prev = nil
			},
			"edited to nonsense": func(t *testing.T, p *pod) {
				p.Config = attach.Derive(t, p.Config, map[string]any{"backend": 7})
			},
		} {
			t.Run(backend+" "+how, func(t *testing.T) {
				wipe(t)
				script(t, closed["iptables-legacy policy"]+";"+closed["nft policy"])
				p, other := newPod(t, 70, 2, `,"backend":"`+backend+`"`), newPod(t, 70, 3, "")
				p.Add(t)
				other.Add(t)
				prepare(t, p)
				p.Del(t)
				p.gone(t)
				other.Check(t)
				p.Del(t)
				other.Check(t)
			})
		}
	}
}

// A DEL that comes late does not take what the address's next container has.
func TestLateDel(t *testing.T) {
	for _, backend := range []string{"", "nftables"} {
		t.Run(backend, func(t *testing.T) {
			wipe(t)
			p := newPod(t, 70, 2, `,"backend":"`+backend+`"`)
			p.Add(t)
			next := newPod(t, 71, 2, `,"backend":"`+backend+`"`)
			next.Config = attach.Derive(t, next.Config, map[string]any{"prevResult": p.bridge.Prev})

			_, failure := next.TryAdd(t)
			if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "net70/id2/eth0") {
				t.Errorf("ADD of an address that is taken: %v", failure)
			}
			p.Check(t)
			host.RemoveNetNS(t, p.NetNS) // without DEL
			next.Add(t)
			p.Del(t)
			next.Check(t)
		})
	}
}

// A second DEL that comes late, with the result of long ago, leaves the rules of
// the reference's container that has the address by now: host-local tells.
func TestLateDelOfReferences(t *testing.T) {
	reference := host.Reference(t)
	name := strings.Repeat("late", 12) // a name that tags have the hash of
	network := `{"cniVersion":"1.0.0","name":"` + name + `","type":"bridge","bridge":"br72","ipam":{"type":"host-local",
		"ranges":[[{"subnet":"10.72.0.0/24","rangeStart":"10.72.0.2","rangeEnd":"10.72.0.2"}],[{"subnet":"fd00:72::/64","rangeStart":"fd00:72::2","rangeEnd":"fd00:72::2"}]]}}`
	t.Cleanup(func() { host.Try("ip", "link", "del", "br72") }) //nolint:errcheck // there may be none
	for _, backend := range []string{"", "iptables"} {
		config := `{"cniVersion":"1.0.0","name":"` + name + `","type":"firewall","backend":"` + backend + `"}`
		for _, first := range []bool{false, true} { // whether it is the first DEL that comes late
			t.Run(fmt.Sprint(backend, " ", first), func(t *testing.T) {
				wipe(t)
				old := attach.New(t, network, "old")
				old.Add(t)
				late := old.Then(t, config)
				late.Add(t)
				if !first {
					late.Del(t)
				}
				old.Del(t)

				next := attach.New(t, network, "next")
				next.Bin = reference
				next.Add(t)
				theirs := next.Then(t, config)
				theirs.Bin = reference
				theirs.Add(t)
				theirs.Check(t)

				late.Del(t)
				theirs.Check(t)
				for _, line := range mentions(t, "/old/") {
					t.Errorf("left: %s", line)
				}
				theirs.Bin = host.Bin(t)
				theirs.Del(t) // ours deletes what the reference has made
				if lines := mentions(t, "10.72.0.2/32", "fd00:72::2/128"); lines != nil {
					t.Errorf("left: %q", lines)
				}
				next.Del(t)
			})
		}
	}
}

func TestGC(t *testing.T) {
	for _, backend := range []string{"", "nftables"} {
		for _, record := range []bool{true, false} {
			t.Run(fmt.Sprint(backend, " ", record), func(t *testing.T) {
				wipe(t)
				var pods []*pod
				for id := range 4 {
					p := newPod(t, 70+id/3, 2+id, `,"backend":"`+backend+`"`)
					p.Add(t)
					pods = append(pods, p)
				}
				if !record {
					script(t, "rm /run/plumb/attachments/firewall@net70@id[24]@*")
				}
				pods[0].GC(t, pods[1].Attachment)
				pods[0].gone(t)
				pods[2].gone(t)
				pods[1].Check(t)
				pods[3].Check(t) // on another network
			})
		}
	}
}

// What fails leaves nothing.
func TestUndo(t *testing.T) {
	wipe(t)
	script(t, closed["iptables-legacy policy"]+";"+closed["nft policy"])
	p := newPod(t, 70, 2, "")
	path, err := filepath.EvalSymlinks("/usr/sbin/iptables-legacy-restore")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("ADD", func(t *testing.T) {
		hide(t, path)
		_, failure := p.TryAdd(t)
		if failure == nil || !strings.Contains(failure.Error(), "iptables-legacy-restore") {
			t.Fatalf("ADD without the program: %v", failure)
		}
	})
	p.gone(t)
	p.Add(t)
	p.Del(t)
	p.gone(t)
}

func TestRefuse(t *testing.T) {
	wipe(t)
	p := newPod(t, 70, 2, "")
	for _, x := range []struct {
		keys map[string]any
		want string
	}{
		{map[string]any{"backend": "ipfw"}, `unknown backend "ipfw"`},
		{map[string]any{"ingressPolicy": "closed"}, `unknown policy "closed"`},
		{map[string]any{"iptablesAdminChainName": "a b"}, "iptablesAdminChainName"},
		{map[string]any{"iptablesAdminChainName": "-X"}, "iptablesAdminChainName"},
		{map[string]any{"iptablesAdminChainName": strings.Repeat("x", 29)}, "iptablesAdminChainName"},
		{map[string]any{"firewalldZone": "a\nb"}, "firewalldZone"},
		{map[string]any{"prevResult": nil}, "prevResult is missing"},
		{map[string]any{"ingressPolicy": "isolated", "prevResult": map[string]any{"cniVersion": "1.1.0", "ips": []any{}}}, "names no bridge"},
	} {
		_, failure := p.with(t, x.keys, "").TryAdd(t)
		if failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Msg, x.want) {
			t.Errorf("%v: %v", x.keys, failure)
		}
	}
	_, failure := p.with(t, map[string]any{"backend": "firewalld"}, "").TryAdd(t)
	if failure == nil || failure.Code != cni.CodeUnavailable || !strings.Contains(failure.Msg, "firewalld does not run") {
		t.Errorf("ADD without firewalld: %v", failure)
	}
	if failure := p.with(t, map[string]any{"backend": "firewalld"}, "").TryStatus(t); failure == nil || failure.Code != cni.CodeUnavailable {
		t.Errorf("STATUS without firewalld: %v", failure)
	}
	p.gone(t)
	p.Config = attach.Derive(t, p.Config, map[string]any{"prevResult": map[string]any{"cniVersion": "1.1.0", "interfaces": []any{}}})
	p.Add(t) // without addresses there is nothing to do
}

// letsPublished is in the rule that the reference doesn't make, and so doesn't
// delete.
const letsPublished = "--ctstate DNAT"

// An attachment of the reference is ours to check and to delete, and ours is
// the reference's. Both make the same rules, but for one.
func TestReference(t *testing.T) {
	reference := host.Reference(t)
	rules := func() string {
		return host.Run(t, "iptables-save", "-t", "filter") + host.Run(t, "ip6tables-save", "-t", "filter")
	}
	plain := func(s string) string {
		var lines []string
		for line := range strings.Lines(s) {
			if !strings.HasPrefix(line, "#") && !strings.Contains(line, letsPublished) {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	for _, policy := range []string{"open", "same-bridge", "isolated"} {
		t.Run(policy, func(t *testing.T) {
			wipe(t)
			p := newPod(t, 70, 2, `,"cniVersion":"1.0.0","ingressPolicy":"`+policy+`"`)
			theirs := p.with(t, nil, reference)
			theirs.Add(t)
			want := plain(rules())
			p.Prev = theirs.Prev
			p.Check(t)
			p.Del(t)
			p.gone(t)

			wipe(t)
			p.Prev = nil
			p.Add(t)
			if got := plain(rules()); got != want {
				t.Errorf("rules are\n%s, the reference's\n%s", got, want)
			}
			theirs = p.with(t, nil, reference)
			theirs.Check(t)
			theirs.Del(t)
			for _, line := range mentions(t, p.v4+"/32", p.v6+"/128") {
				if !strings.Contains(line, letsPublished) && !strings.Contains(line, `"match":{"op":"==","left":{"payload"`) {
					t.Errorf("the reference has left %s", line)
				}
			}
			p.Del(t)
			p.gone(t)
		})
	}
}
