package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// observe returns all that the kernel and the disk hold of one attachment, a
// fact a line, after what the kernel does in its own time. What is generated is
// replaced by a word.
func observe(t *testing.T, at attachment) []string {
	t.Helper()
	host.Settle(t, at.ns)
	facts := append(namespace(t, "host", ""), namespace(t, "container", at.ns)...)
	for _, line := range host.Snapshot(t) {
		kind, _, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"link", "addr", "route", "rule", "sysctl", "qdisc"}, kind) || ofIPTables.MatchString(line) {
			continue // namespace looks closer, or iptables-save has
		}
		facts = append(facts, "host "+line)
		if port := mapping(line); port != "" {
			facts = append(facts, "host port "+port)
		}
	}
	return anonymous(t, facts, at)
}

var ofIPTables = regexp.MustCompile(`^nft rule ip6? (nat|filter|mangle|raw|security) `)

var (
	mappedByReference = regexp.MustCompile(`^nft rule (ip6?) cni_hostport \S+ \[(?:\{"match":.*"field":"daddr".*"right":"([^"]+)"\}\},)?` +
		`\{"match":.*"field":"dport","protocol":"(\w+)".*"right":(\d+)\}\},\{"dnat":\{"addr":"([^"]+)","port":(\d+)\}`)
	mappedByOurs = regexp.MustCompile(`^nft element inet plumb portmap[46]\S* \{ (\w+) \. (\S+) \. (\d+) : (\S+) \. (\d+) \}`)
)

// mapping tells which port of the host leads where by a rule or element of
// nftables, in the same words whoever made it; empty for none.
func mapping(line string) string {
	if m := mappedByReference.FindStringSubmatch(line); m != nil {
		at := m[2]
		if at == "" {
			at = map[string]string{"ip": "0.0.0.0", "ip6": "::"}[m[1]]
		}
		return fmt.Sprintf("%s %s %s to %s %s", m[3], at, m[4], m[5], m[6])
	}
	if m := mappedByOurs.FindStringSubmatch(line); m != nil {
		return fmt.Sprintf("%s %s %s to %s %s", m[1], m[2], m[3], m[4], m[5])
	}
	return ""
}

var (
	macAddress = regexp.MustCompile(`\b([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}\b`)
	linkLocal  = regexp.MustCompile(`\bfe80::[0-9a-f:]{2,}`)
)

// anonymous replaces what differs from run to run and from implementation to
// implementation by words.
func anonymous(t *testing.T, facts []string, at attachment) []string {
	t.Helper()
	pairs := []string{at.id, "ID", networkName, "NETWORK", at.ns, "SANDBOX"}
	for name, l := range host.Links(t, "") {
		switch {
		case l.Kind == "ifb":
			pairs = append(pairs, name, "IFB")
		case l.Kind == "veth" && name != host.Uplink && !strings.HasPrefix(name, wire):
			pairs = append(pairs, name, "VETH")
		}
	}
	words := strings.NewReplacer(pairs...)
	for i := range facts {
		facts[i] = words.Replace(facts[i])
		facts[i] = macAddress.ReplaceAllString(facts[i], "MAC")
		facts[i] = linkLocal.ReplaceAllString(facts[i], "LINKLOCAL")
	}
	slices.Sort(facts)
	return facts
}

// namespace returns the facts of a network namespace.
func namespace(t *testing.T, where, ns string) []string {
	t.Helper()
	var facts []string
	add := func(format string, args ...any) { facts = append(facts, where+" "+fmt.Sprintf(format, args...)) }

	var links []map[string]any
	host.JSONIn(t, ns, &links, "ip", "-j", "-d", "addr")
	for _, l := range links {
		name := l["ifname"]
		addrs, _ := l["addr_info"].([]any)
		delete(l, "addr_info")
		for _, fact := range flatten(l) {
			add("link %s %s", name, fact)
		}
		for _, a := range addrs {
			fields, _ := a.(map[string]any) // {} for an interface without addresses
			for _, fact := range flatten(fields) {
				add("addr %s %v %s", name, fields["local"], fact)
			}
		}
	}
	for _, family := range []string{"-4", "-6"} {
		var routes, rules []map[string]any
		host.JSONIn(t, ns, &routes, "ip", "-j", "-d", family, "route", "show", "table", "all")
		for _, r := range routes {
			add("route %s %s", family, canonical(t, r))
		}
		host.JSONIn(t, ns, &rules, "ip", "-j", family, "rule")
		for _, r := range rules {
			add("rule %s %s", family, canonical(t, r))
		}
	}
	var vlans []struct {
		Dev   string `json:"ifname"`
		VLANs []map[string]any
	}
	host.JSONIn(t, ns, &vlans, "bridge", "-j", "vlan")
	for _, port := range vlans {
		for _, v := range port.VLANs {
			add("vlan %s %s", port.Dev, canonical(t, v))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(host.Links(t, ns))) {
		facts = append(facts, shaping(t, where, ns, name)...)
	}
	// What can't be read, such as stable_secret before it is written, is passed over.
	out, _ := host.TryIn(ns, "grep", "-rs", "", "/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf", "/proc/sys/net/ipv4/neigh",
		"/proc/sys/net/ipv6/neigh", "/proc/sys/net/ipv4/ip_forward")
	if out == "" {
		t.Fatal("no sysctls could be read")
	}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "/proc/sys/net/"), ":")
		add("sysctl %s=%s", key, value)
	}
	return facts
}

// shaping returns the facts of what a link does with its queue.
func shaping(t *testing.T, where, ns, link string) []string {
	t.Helper()
	var facts []string
	for _, what := range [][]string{{"qdisc"}, {"filter"}, {"filter", "parent", "ffff:"}} {
		args := append([]string{"-j", "-d", what[0], "show", "dev", link}, what[1:]...)
		var objects []map[string]any
		host.JSONIn(t, ns, &objects, "tc", args...)
		for _, o := range objects {
			if len(o) > 0 && o["kind"] != "noqueue" {
				facts = append(facts, fmt.Sprintf("%s %s %s %s", where, what[0], link, canonical(t, o)))
			}
		}
	}
	for line := range strings.Lines(host.RunIn(t, ns, "tc", "class", "show", "dev", link)) { // it has no JSON everywhere
		facts = append(facts, fmt.Sprintf("%s class %s %s", where, link, strings.TrimSpace(line)))
	}
	return facts
}

// flatten writes an object as a line for each value: "a.b=value". The elements
// of a list of flags are one line each.
func flatten(object map[string]any) []string {
	var lines []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, e := range v {
				if !volatile(key) {
					walk(strings.TrimPrefix(path+"."+key, "."), e)
				}
			}
		case []any:
			for i, e := range v {
				if _, ok := e.(map[string]any); ok {
					walk(fmt.Sprintf("%s[%d]", path, i), e)
				} else {
					walk(path, e)
				}
			}
		default:
			lines = append(lines, fmt.Sprintf("%s=%v", path, v))
		}
	}
	walk("", object)
	return lines
}

// volatile tells whether a field of ip's output differs from run to run: an
// index, or a timer.
func volatile(key string) bool {
	return key == "ifindex" || key == "link_index" || key == "link_netnsid" || strings.HasSuffix(key, "_timer")
}

// canonical is JSON with sorted keys.
func canonical(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// compare lists what is only in one of two lists of facts: "- " of the first,
// "+ " of the second.
func compare(first, second []string) []string {
	count := make(map[string]int)
	for _, f := range first {
		count[f]--
	}
	for _, f := range second {
		count[f]++
	}
	var lines []string
	for f, n := range count {
		for range max(n, -n) {
			lines = append(lines, map[bool]string{true: "+ ", false: "- "}[n > 0]+f)
		}
	}
	slices.Sort(lines)
	return lines
}
