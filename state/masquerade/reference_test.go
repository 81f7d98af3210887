package masquerade

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// variant makes the iptables programs of a variant, nft or legacy, the host's choice until the test ends.
func variant(t testing.TB, name string) {
	t.Helper()
	const dir = "/etc/alternatives"
	chosen := make(map[string]string)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil { // there is a README
			chosen[e.Name()] = to
		}
	}
	for _, family := range []string{"ip", "ip6"} {
		for _, verb := range []string{"", "-save", "-restore"} {
			chosen[family+"tables"+verb] = "/usr/sbin/" + family + "tables-" + name + verb
		}
	}
	cover(t, dir)
	for link, to := range chosen {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
}

// cover makes a folder of the host empty until the test ends or the function returned is called.
func cover(t testing.TB, dir string) (uncover func()) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	uncover = sync.OnceFunc(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(uncover)
	return uncover
}

// long is an owner whose reference comment does not fit.
var long = state.Owner{Network: "a-network-with-a-name", ContainerID: strings.Repeat("0123456789abcdef", 4), IfName: "eth0"}

// reference runs a verb of the reference's ptp for an owner, and returns the addresses of its result.
func reference(t testing.TB, verb, ns, backend string, o state.Owner, prev []netip.Prefix) []netip.Prefix {
	t.Helper()
	conf := map[string]any{
		"cniVersion": "1.0.0", "name": o.Network, "type": "ptp", "ipMasq": true, "ipMasqBackend": backend,
		"ipam": map[string]any{"type": "host-local", "dataDir": t.TempDir(), "ranges": [][]map[string]string{{{"subnet": "10.22.0.0/16"}}, {{"subnet": "fd00:22::/64"}}}},
	}
	if prev != nil {
		var ips []map[string]any
		for _, p := range prev {
			ips = append(ips, map[string]any{"address": p.String(), "interface": 0})
		}
		conf["prevResult"] = map[string]any{"cniVersion": "1.0.0", "interfaces": []map[string]any{{"name": o.IfName, "sandbox": ns}}, "ips": ips}
	}
	data, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	bin := host.Reference(t)
	stdout, stderr, exit := host.Plugin(t, bin, "ptp", host.Env(verb, o.ContainerID, ns, o.IfName, bin), string(data))
	if exit != 0 {
		t.Fatalf("reference %s: %s %s", verb, stdout, stderr)
	}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if verb == "ADD" {
		if err := json.Unmarshal([]byte(stdout), &result); err != nil {
			t.Fatal(err)
		}
	}
	var addrs []netip.Prefix
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address)
	}
	return addrs
}

// TestReference checks, finds and removes what the reference made.
func TestReference(t *testing.T) {
	for _, x := range []struct {
		backend, variant, damage, drift string
	}{
		{"nftables", "nft", "nft flush chain inet cni_plugins_masquerade postrouting",
			"rule of chain inet cni_plugins_masquerade postrouting is missing, want goto masq_checks"},
		{"iptables", "nft", "iptables-nft -t nat -F POSTROUTING", "iptables ip nat chain POSTROUTING rule for 10.22.0.2 is missing"},
		{"iptables", "legacy", "ip6tables-legacy -t nat -F CHAIN", "iptables ip6 nat chain CHAIN last rule is missing, want masquerade"},
	} {
		for _, o := range []state.Owner{owner("short"), long} {
			t.Run(x.backend+" "+x.variant+" "+o.Network, func(t *testing.T) {
				variant(t, x.variant)
				k := kernel(t)
				ns := host.NetNS(t)
				m := Masquerade{Owner: o, Addresses: reference(t, "ADD", ns, x.backend, o, nil)}
				if len(m.Addresses) != 2 {
					t.Fatalf("addresses %v", m.Addresses)
				}
				if d := diff(t, k, m); d != "" {
					t.Error("CHECK:", d)
				}
				other := Masquerade{Owner: owner("other"), Addresses: m.Addresses}
				if d := diff(t, k, other); d == "" {
					t.Error("CHECK of another attachment passes")
				}

				want := containerChain(o)
				if x.backend == "nftables" {
					want = markPrefix + mark(o)
				}
				found := garbage(t, k, o.Network, owner("x"))
				if len(found) != 1 || found[0].Key.Name != want {
					t.Fatalf("garbage is %v, want %s", found, want)
				}
				if got := garbage(t, k, o.Network, owner("x"), o); got != nil {
					t.Errorf("garbage is the valid %v", got)
				}

				named := strings.NewReplacer("CHAIN", containerChain(o))
				host.Run(t, "sh", "-c", named.Replace(x.damage))
				if d := diff(t, k, m); !strings.Contains(d, named.Replace(x.drift)) {
					t.Errorf("CHECK after %s: %s", x.damage, d)
				}

				remove(t, k, Key(owner("other")), owner("other"))
				if got := garbage(t, k, o.Network); len(got) == 0 {
					t.Error("removed with another's")
				}
				if o == long { // as GC does
					remove(t, k, found[0].Key, found[0].Owner)
				} else { // as DEL does
					remove(t, k, m.Key(), o)
				}
				empty(t)
			})
		}
	}
}

// TestIPTables compares what is written with what the reference writes, and lets the reference remove it.
func TestIPTables(t *testing.T) {
	for _, v := range []string{"nft", "legacy"} {
		t.Run(v, func(t *testing.T) {
			variant(t, v)
			k := kernel(t)
			o := owner("both")
			rules := func() (lines []string) {
				for _, tool := range []string{"iptables-" + v + "-save", "ip6tables-" + v + "-save"} {
					for line := range strings.Lines(host.Run(t, tool, "-t", "nat")) {
						if strings.Contains(line, "CNI-") && !strings.HasPrefix(line, ":") {
							lines = append(lines, strings.TrimSpace(line))
						}
					}
				}
				return lines
			}
			ns := host.NetNS(t)
			m := Masquerade{Owner: o, Addresses: reference(t, "ADD", ns, "iptables", o, nil), Backend: IPTables}
			want := rules()
			if undo := ensure(t, k, m); undo != nil {
				t.Error("the reference's rules were not enough")
			}
			remove(t, k, m.Key(), o)
			empty(t)
			ensure(t, k, m)
			if got := rules(); !slices.Equal(got, want) {
				t.Errorf("rules\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if d := diff(t, k, m); d != "" {
				t.Error("CHECK:", d)
			}
			reference(t, "DEL", ns, "iptables", o, m.Addresses)
			empty(t)

			// A second interface of the container shares the chain.
			ensure(t, k, m)
			second := Masquerade{Owner: o, Addresses: prefixes("10.22.9.9/16", "10.33.0.1/24"), Backend: IPTables}
			second.Owner.IfName = "net1"
			ensure(t, k, second)
			if d := diff(t, k, m) + diff(t, k, second); d != "" {
				t.Error("CHECK:", d)
			}
			remove(t, k, second.Key(), second.Owner)
			if d := diff(t, k, m); d != "" {
				t.Error("CHECK after DEL of the other interface:", d)
			}
			if d := diff(t, k, second); !strings.Contains(d, "POSTROUTING rule for 10.22.9.9 is missing") {
				t.Error("CHECK after DEL:", d)
			}
			remove(t, k, Key(o), o) // knowing no address
			empty(t)
			if d := diff(t, k, m); !strings.Contains(d, "iptables ip nat chain "+containerChain(o)+" is missing") {
				t.Error("CHECK after DEL:", d)
			}
		})
	}
}

// TestNoPrograms: nothing but the iptables back end needs any, and that says which.
func TestNoPrograms(t *testing.T) {
	k := kernel(t)
	o := long
	for _, f := range []nftconn.Family{nftconn.IPv4, nftconn.IPv6} {
		m := Masquerade{Owner: o, Addresses: prefixes("10.22.0.2/16", "fd00:22::2/64"), Backend: IPTables}
		script, _ := m.script(f, chainState{})
		host.Run(t, "sh", "-c", fmt.Sprintf("%stables-nft-restore --noflush <<'EOF'\n%sEOF", f, script))
	}
	uncover := cover(t, "/usr/sbin")
	remove(t, k, Key(o), o)
	uncover()
	empty(t)
}

func TestMarks(t *testing.T) {
	for _, x := range []struct {
		comment string
		whole   bool
		network string
	}{
		{mark(owner("id")) + ", net: mynet, if: eth0, id: id", true, "mynet"},
		{(mark(long) + ", net: " + long.Network + ", if: eth0, id: " + long.ContainerID)[:128], false, long.Network},
		{mark(owner("id")) + ", net: other, if: eth0, id: id", false, ""},
		{mark(owner("id")) + ", net: my", false, ""},
		{"my own rule", false, ""},
		{"", false, ""},
	} {
		if o, whole := markOwner(x.comment); whole != x.whole || o.Network != x.network {
			t.Errorf("%q is of %v, %v", x.comment, o, whole)
		}
	}
}
