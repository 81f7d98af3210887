package host

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Patterns of what may stay when the last attachment is gone, for State.Diff and Unchanged: objects that are shared and cost
// nothing while they are empty.
const (
	// SharedNFT is our own table with its chains, sets and the rules that look them up. Elements are never shared.
	SharedNFT = `^nft (table|chain|set|map|rule) \S+ plumb\b`
	// SharedFiles are empty folders, host-local's lock, its memory of the address last given and its index.
	SharedFiles = `^(dir /(var/lib/cni|run/plumb)|file /var/lib/cni/networks/([^/]+/(lock|last_reserved_ip\.[0-9]+)|\.plumb/[^/]+\.index) )`
	// SharedForwarding are the sysctls that turn the host into a router (IPv4's makes the kernel turn off accept_redirects).
	SharedForwarding = `^sysctl (ipv4/ip_forward|ipv4/conf/all/(forwarding|accept_redirects)|ipv6/conf/all/forwarding) `
)

// SharedBridge is the pattern of a bridge that stays with its addresses and routes when its last port is gone.
func SharedBridge(name string) string {
	return `^(link|addr|qdisc) ` + regexp.QuoteMeta(name) + ` |^route .* dev ` + regexp.QuoteMeta(name) + `\b`
}

// State is everything in the host's namespace that an attachment may leave behind, a line each: links, addresses, routes,
// rules, qdiscs, nftables, iptables of both kinds, sysctls, and the files and folders below /var/lib/cni and /run/plumb.
type State []string

// Snapshot returns the present state of the host. It gives the kernel a moment for what it does by itself with a new link: until then,
// the routes of its addresses are missing.
func Snapshot(t testing.TB) State {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); unsettled(t, "", false) != "" && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	var s State
	add := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }

	for _, l := range Links(t, "") {
		flags := slices.DeleteFunc(slices.Clone(l.Flags), func(f string) bool { return f == "LOWER_UP" || f == "NO-CARRIER" })
		add("link %s kind=%s mtu=%d mac=%s master=%s alias=%q group=%s promiscuity=%d allmulti=%d addrgen=%s flags=%v",
			l.Name, l.Kind, l.MTU, l.MAC, l.Master, l.Alias, l.Group, l.Promiscuity, l.AllMulti, l.AddrGenMode, flags)
	}
	for _, a := range Addrs(t, "") {
		add("addr %s %s peer=%s scope=%s", a.Dev, a.Prefix, a.Peer, a.Scope)
	}
	for _, family := range []int{4, 6} {
		for _, r := range Routes(t, "", family, "table all") {
			add("route %d table %s %s %s dev %s via=%s%s proto=%s scope=%s src=%s metric=%d %v",
				family, r.Table, r.Type, r.Dst, r.Dev, r.Gateway, r.Via.Host, r.Protocol, r.Scope, r.PrefSrc, r.Priority, r.Metrics)
		}
		for _, r := range Rules(t, "", family) {
			add("rule %d %+v", family, r)
		}
	}
	var qdiscs []struct{ Dev, Kind, Handle, Parent string }
	JSON(t, &qdiscs, "tc", "-j", "qdisc")
	for _, q := range qdiscs {
		add("qdisc %s %s %s parent=%s", q.Dev, q.Kind, q.Handle, q.Parent)
	}
	ruleset := NFT(t)
	for _, x := range ruleset.Tables {
		add("nft table %s %s", x.Family, x.Name)
	}
	for _, x := range ruleset.Chains {
		add("nft chain %s %s %s type=%s hook=%s prio=%d policy=%s", x.Family, x.Table, x.Name, x.Type, x.Hook, x.Prio, x.Policy)
	}
	for _, x := range ruleset.Rules {
		add("nft rule %s %s %s %s comment=%q", x.Family, x.Table, x.Chain, x.Expr, x.Comment)
	}
	for _, x := range ruleset.Sets {
		add("nft set %s %s %s", x.Family, x.Table, x.Name)
		for _, e := range x.Elems {
			add("nft element %s %s %s { %s : %s } comment=%q", x.Family, x.Table, x.Name, e.Key, e.Value, e.Comment)
		}
	}
	for _, tool := range iptablesInUse(ruleset) {
		s = append(s, iptables(t, tool)...)
	}
	for _, key := range sysctls(t) {
		add("sysctl %s", key)
	}
	for _, dir := range []string{"/var/lib/cni", "/run/plumb"} {
		s = append(s, files(t, dir)...)
	}
	slices.Sort(s)
	return s
}

// iptablesInUse names the variants of iptables-save that may have something to list here, which usually is none. Not starting the others is a
// third of a snapshot's time.
func iptablesInUse(r Ruleset) []string {
	var tools []string
	for family, prefix := range map[string]string{"ip": "iptables", "ip6": "ip6tables"} {
		// The kernel lists the tables of x_tables once the module is there; those of nftables that are iptables' have its names.
		legacy, err := os.ReadFile("/proc/net/" + family + "_tables_names")
		if err == nil && len(legacy) > 0 {
			tools = append(tools, prefix+"-save", prefix+"-legacy-save")
		} else if slices.ContainsFunc(r.Tables, func(x NFTTable) bool {
			return x.Family == family && slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, x.Name)
		}) {
			tools = append(tools, prefix+"-save")
		}
	}
	return tools
}

// iptables lists the rules that a variant of iptables-save knows, without their counters; none where the machine lacks the variant.
func iptables(t testing.TB, tool string) []string {
	t.Helper()
	out, err := Try(tool)
	if err != nil {
		return nil
	}
	var lines []string
	table := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"): // a chain, which counts when it isn't a built-in one with its usual policy
			if fields := strings.Fields(line); fields[1] != "ACCEPT" {
				lines = append(lines, fmt.Sprintf("%s %s chain %s %s", tool, table, fields[0][1:], fields[1]))
			}
		case strings.HasPrefix(line, "-A"):
			lines = append(lines, fmt.Sprintf("%s %s %s", tool, table, line))
		}
	}
	return lines
}

// sysctls lists the settings of the whole host. Those of one interface come and go with it.
func sysctls(t testing.TB) []string {
	t.Helper()
	const root = "/proc/sys/net/"
	names := []string{root + "ipv4/ip_forward"}
	for _, pattern := range []string{"ipv4/conf/all/*", "ipv6/conf/all/*", "bridge/*"} {
		found, err := filepath.Glob(root + pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	var lines []string
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // stable_secret can't be read before it is written
		}
		lines = append(lines, strings.TrimPrefix(name, root)+" = "+strings.TrimSpace(string(data)))
	}
	return lines
}

// files lists a folder with the contents of its files, shortened where they are long.
func files(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // the root was never made, or a test running in parallel removed the file
		case err != nil:
			return err
		case d.IsDir():
			lines = append(lines, "dir "+path)
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			content := fmt.Sprintf("%q", data)
			if len(data) > 200 {
				content = fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))
			}
			lines = append(lines, "file "+path+" "+content)
		default:
			lines = append(lines, fmt.Sprintf("file %s %v", path, d.Type()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// Diff lists what differs in after, a line each: "- " what is gone, "+ " what is new. A line that matches one of the regular
// expressions in shared is not listed. "" means that nothing differs.
func (s State) Diff(after State, shared ...string) string {
	var allowed []*regexp.Regexp
	for _, pattern := range shared {
		allowed = append(allowed, regexp.MustCompile(pattern))
	}
	var lines []string
	only := func(mark string, a, b State) {
		count := make(map[string]int)
		for _, line := range b {
			count[line]++
		}
		for _, line := range a {
			if count[line]--; count[line] >= 0 {
				continue
			}
			if !slices.ContainsFunc(allowed, func(re *regexp.Regexp) bool { return re.MatchString(line) }) {
				lines = append(lines, mark+line)
			}
		}
	}
	only("- ", s, after)
	only("+ ", after, s)
	return strings.Join(lines, "\n")
}

// Unchanged fails the test when the host differs from before in more than what matches shared. It gives the kernel a moment, because a
// link goes some time after the last process has left the namespace of its peer.
func Unchanged(t testing.TB, before State, shared ...string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		diff := before.Diff(Snapshot(t), shared...)
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the host is not as it was before:\n%s", diff)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// String is the state as text, for a failing test's output.
func (s State) String() string { return strings.Join(s, "\n") }
