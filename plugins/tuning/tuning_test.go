package tuning_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

const ptp = `{"cniVersion":"1.1.0","name":"net","type":"ptp","ipam":{"type":"host-local",
	"ranges":[[{"subnet":"10.70.0.0/24"}],[{"subnet":"fd00:70::/64"}]]}}`

func tuning(keys string) string {
	if keys != "" {
		keys = "," + keys
	}
	return `{"cniVersion":"1.1.0","name":"net","type":"tuning"` + keys + `}`
}

// container returns a container with an interface, as an interface plugin left it.
func container(t *testing.T, id string) *attach.Attachment {
	t.Helper()
	a := attach.New(t, ptp, id)
	a.Add(t)
	// A snapshot is not to miss what the kernel does in its own time.
	end := a.HostEnd(t)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if slices.ContainsFunc(host.Addrs(t, ""), func(a host.Addr) bool {
			return a.Dev == end && a.Prefix.Addr().IsLinkLocalUnicast() && !a.Tentative
		}) {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has no address of its own", end)
		}
	}
}

// sysctl reads a setting in a namespace.
func sysctl(t *testing.T, ns, name string) string {
	t.Helper()
	return strings.Join(strings.Fields(host.RunIn(t, ns, "cat", "/proc/sys/net/"+name)), " ")
}

// facts are what a container's interface is like.
type facts struct {
	mac               string
	mtu, txQLen       int
	promisc, allMulti bool
}

func look(t *testing.T, ns, name string) facts {
	t.Helper()
	l := host.Links(t, ns)[name]
	f := facts{mac: l.MAC, mtu: l.MTU, txQLen: l.TxQLen, promisc: l.Promiscuity > 0, allMulti: l.AllMulti > 0}
	for _, flag := range l.Flags {
		f.allMulti = f.allMulti || flag == "ALLMULTI"
	}
	return f
}

// TestAttributes sets each attribute of the interface in each way, looks with ip,
// and has DEL give back what was.
func TestAttributes(t *testing.T) {
	keys.Covers(t, "tuning", "mac", "mtu", "promisc", "allmulti", "txQLen", "CNI_ARGS.MAC", "runtimeConfig.mac")
	keys.Covers(t, "tuning", "args.cni.mac", "args.cni.mtu", "args.cni.promisc", "args.cni.allmulti", "args.cni.txQLen")
	const own, other, third = "c2:11:22:33:44:55", "c2:11:22:33:44:66", "c2:11:22:33:44:77"
	for _, tt := range []struct {
		keys, args string
		change     func(f *facts)
	}{
		{`"mac":"` + own + `"`, "", func(f *facts) { f.mac = own }},
		{`"mtu":1400`, "", func(f *facts) { f.mtu = 1400 }},
		{`"promisc":true`, "", func(f *facts) { f.promisc = true }},
		{`"promisc":false,"allmulti":false`, "", func(f *facts) {}},
		{`"allmulti":true`, "", func(f *facts) { f.allMulti = true }},
		{`"txQLen":77`, "", func(f *facts) { f.txQLen = 77 }},
		{`"txQLen":0`, "", func(f *facts) { f.txQLen = 0 }},
		{`"mac":"` + own + `","mtu":1454,"promisc":true,"allmulti":true,"txQLen":5`, "",
			func(f *facts) { *f = facts{mac: own, mtu: 1454, txQLen: 5, promisc: true, allMulti: true} }},
		{``, "IgnoreUnknown=1;MAC=" + other, func(f *facts) { f.mac = other }},
		{`"mac":"` + own + `"`, "MAC=" + other, func(f *facts) { f.mac = other }},
		{`"mac":"` + own + `","runtimeConfig":{"mac":"` + third + `"}`, "MAC=" + other, func(f *facts) { f.mac = third }},
		{`"args":{"cni":{"mac":"` + other + `"}},"mac":"` + own + `","runtimeConfig":{"mac":"` + third + `"}`, "", func(f *facts) { f.mac = other }},
		{`"mtu":1400,"args":{"cni":{"mtu":1300}}`, "", func(f *facts) { f.mtu = 1300 }},
		{`"args":{"cni":{"promisc":true,"allmulti":true,"txQLen":9}},"txQLen":7,"allmulti":false`, "",
			func(f *facts) { f.promisc, f.allMulti, f.txQLen = true, true, 9 }},
		{`"promisc":true,"args":{"cni":{"promisc":false}}`, "", func(f *facts) {}},
		{``, "", func(f *facts) {}},
	} {
		t.Run(tt.keys+" "+tt.args, func(t *testing.T) {
			a := container(t, "attributes")
			before := look(t, a.NetNS, "eth0")
			want := before
			tt.change(&want)
			b := a.Then(t, tuning(tt.keys))
			b.Args = tt.args
			result := b.Add(t)
			if got := look(t, a.NetNS, "eth0"); got != want {
				t.Errorf("ADD makes %+v, want %+v", got, want)
			}
			for _, i := range result.Interfaces {
				if i.Sandbox != "" && (i.MAC != want.mac || i.MTU != uint(want.mtu)) {
					t.Errorf("the result has %+v, want %+v", i, want)
				}
			}
			b.Check(t)
			host.RunIn(t, a.NetNS, "ping", "-c1", "-W5", "10.70.0.1")
			b.Del(t)
			if got := look(t, a.NetNS, "eth0"); got != before {
				t.Errorf("DEL makes %+v, want %+v", got, before)
			}
			b.Del(t)
		})
	}
}

// TestDamage changes what was set, which CHECK has to name, and what was not,
// which is nothing to CHECK.
func TestDamage(t *testing.T) {
	a := container(t, "damaged")
	const all = `"mac":"c2:11:22:33:44:55","mtu":1454,"promisc":true,"allmulti":true,"txQLen":5,"sysctl":{"net.core.somaxconn":"500"}`
	for _, tt := range []struct{ keys, command, says string }{
		{all, "ip link set eth0 address c2:11:22:33:44:99", "mac is c2:11:22:33:44:99, want c2:11:22:33:44:55"},
		{all, "ip link set eth0 mtu 1400", "mtu is 1400, want 1454"},
		{all, "ip link set eth0 promisc off", "promisc is false, want true"},
		{all, "ip link set eth0 allmulticast off", "allmulti is false, want true"},
		{all, "ip link set eth0 txqueuelen 6", "txQLen is 6, want 5"},
		{all, "sysctl -qw net.core.somaxconn=7", "core/somaxconn: value is 7, want 500"},
		{all, "ip link set eth0 down; ip link set eth0 name eth9", "eth0 is missing"}, // old kernels rename none that is up
		{``, "ip link set eth0 mtu 1400 promisc on allmulticast on txqueuelen 6; sysctl -qw net.core.somaxconn=7", ""},
		{`"mtu":1454`, "ip link set eth0 promisc on allmulticast on txqueuelen 6; sysctl -qw net.core.somaxconn=7", ""},
	} {
		b := a.Then(t, tuning(tt.keys))
		b.Add(t)
		b.Check(t)
		host.RunIn(t, a.NetNS, "sh", "-ec", tt.command)
		if tt.says == "" {
			b.Check(t)
		} else if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, tt.says) {
			t.Errorf("%s: CHECK says %s, want %s", tt.command, got, tt.says)
		}
		if strings.Contains(tt.command, "eth9") {
			host.RunIn(t, a.NetNS, "ip", "link", "set", "eth9", "name", "eth0")
		}
		b.Del(t)
		host.RunIn(t, a.NetNS, "sh", "-ec", "ip link set eth0 mtu 1500 promisc off allmulticast off txqueuelen 1000; sysctl -qw net.core.somaxconn=4096")
	}
}

// TestSysctl sets settings of the container, by all kinds of names, and gives back
// what they were.
func TestSysctl(t *testing.T) {
	keys.Covers(t, "tuning", "sysctl", "args.cni.sysctl")
	a := container(t, "sysctl")
	for _, tt := range []struct{ keys, name, value string }{
		{`"sysctl":{"net.core.somaxconn":"500"}`, "core/somaxconn", "500"},
		{`"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}`, "ipv4/conf/eth0/arp_filter", "1"},
		{`"sysctl":{"net/ipv4/conf/eth0/arp_filter":"1"}`, "ipv4/conf/eth0/arp_filter", "1"},
		{`"sysctl":{"net.ipv6.conf.eth0.accept_redirects":"0"}`, "ipv6/conf/eth0/accept_redirects", "0"},
		{`"sysctl":{"net.ipv4.ip_local_port_range":"2000 3000"}`, "ipv4/ip_local_port_range", "2000 3000"},
		{`"sysctl":{"net.ipv4.ip_local_reserved_ports":"8080-8090"}`, "ipv4/ip_local_reserved_ports", "8080-8090"}, // empty before
		{`"sysctl":{"net.core.somaxconn":"500"},"args":{"cni":{"sysctl":{"net.core.somaxconn":"600"}}}`, "core/somaxconn", "600"},
		{`"args":{"cni":{"sysctl":{"net.core.somaxconn":"600"}}}`, "core/somaxconn", "600"},
	} {
		before, onHost := sysctl(t, a.NetNS, tt.name), host.Snapshot(t)
		b := a.Then(t, tuning(tt.keys))
		b.Add(t)
		if got := sysctl(t, a.NetNS, tt.name); got != tt.value {
			t.Errorf("%s: %s is %s", tt.keys, tt.name, got)
		}
		b.Check(t)
		b.Del(t)
		if got := sysctl(t, a.NetNS, tt.name); got != before {
			t.Errorf("%s: after DEL %s is %s, want %s", tt.keys, tt.name, got, before)
		}
		host.Unchanged(t, onHost)
	}
	// An interface's name may hold a dot, and a setting may be there to be written only.
	host.RunIn(t, a.NetNS, "ip", "link", "add", "eth0.7", "type", "veth", "peer", "name", "other")
	for _, key := range []string{"net.ipv4.conf.eth0/7.arp_filter", "net/ipv4/conf/eth0.7/arp_filter", "net.ipv4.conf.IFNAME.arp_filter"} {
		b := a.Then(t, tuning(`"sysctl":{"`+key+`":"1","net.ipv4.route.flush":"1"}`))
		b.IfName = "eth0.7"
		b.Add(t)
		if got := sysctl(t, a.NetNS, "ipv4/conf/eth0.7/arp_filter"); got != "1" {
			t.Errorf("%s: %s", key, got)
		}
		b.Check(t)
		b.Del(t)
	}
}

// TestRefusals are mistakes that are told before anything is done.
func TestRefusals(t *testing.T) {
	a := container(t, "refused")
	before, link := host.Snapshot(t), look(t, a.NetNS, "eth0")
	for _, tt := range []struct {
		keys, args string
		code       cni.Code
		says       string
	}{
		{`"sysctl":{"kernel.panic":"1"}`, "", cni.CodeInvalidConfig, "kernel.panic is not of the network"},
		{`"sysctl":{"net/../kernel/panic":"1"}`, "", cni.CodeInvalidConfig, "is not the name of a setting"},
		{`"sysctl":{"net.ipv4...panic":"1"}`, "", cni.CodeInvalidConfig, "is not the name of a setting"},
		{`"sysctl":{"net.//.//.kernel.panic":"1"}`, "", cni.CodeInvalidConfig, "is not the name of a setting"},
		{`"sysctl":{"/proc/sys/net/core/somaxconn":"1"}`, "", cni.CodeInvalidConfig, "is not of the network"},
		{`"sysctl":{"../net/core/somaxconn":"1"}`, "", cni.CodeInvalidConfig, "is not of the network"},
		{`"sysctl":{"network.core":"1"}`, "", cni.CodeInvalidConfig, "is not of the network"},
		{`"sysctl":{"net":"1"}`, "", cni.CodeInvalidConfig, "is not of the network"},
		{`"sysctl":{"net.core.somaxconn":"1","net.core.somaxconn":"2"}`, "", cni.CodeDecode, "stands there twice"},
		{`"sysctl":{"net.core.somaxconn":"1","net/core/somaxconn":"2"}`, "", cni.CodeInvalidConfig, "stands there twice"},
		{`"sysctl":{"net.core.somaxconn":500}`, "", cni.CodeDecode, "has to be a string"},
		{`"sysctl":["net.core.somaxconn"]`, "", cni.CodeDecode, "sysctl"},
		{`"mac":"nonsense"`, "", cni.CodeInvalidConfig, `mac: "nonsense" is not a hardware address`},
		{`"mac":"01:00:5e:00:00:01"`, "", cni.CodeInvalidConfig, "a group's address"},
		{`"runtimeConfig":{"mac":"x"}`, "", cni.CodeInvalidConfig, "runtimeConfig.mac"},
		{`"args":{"cni":{"mac":"x"}}`, "", cni.CodeInvalidConfig, "args.cni.mac"},
		{`"mtu":-1`, "", cni.CodeInvalidConfig, "mtu -1 is negative"},
		{`"txQLen":-1`, "", cni.CodeInvalidConfig, "txQLen -1 is negative"},
		{`"mtu":4294968696`, "", cni.CodeInvalidConfig, "mtu 4294968696 is more than 4294967295"},
		{`"txQLen":4294967396`, "", cni.CodeInvalidConfig, "txQLen 4294967396 is more than 4294967295"},
	} {
		b := a.Then(t, tuning(tt.keys))
		if _, failure := b.TryAdd(t); failure == nil || failure.Code != tt.code || !strings.Contains(failure.Error(), tt.says) {
			t.Errorf("%s: %v", tt.keys, failure)
		}
		if failure := b.TryStatus(t); failure == nil || failure.Code != tt.code {
			t.Errorf("%s: STATUS: %v", tt.keys, failure)
		}
	}
	// What only the kernel knows.
	for _, tt := range []struct{ keys, says, hint string }{
		{`"mtu":65536`, "eth0: set mtu 65536", "it has mtu 1500 now"},
		{`"mtu":67,"txQLen":9`, "eth0: set mtu 67, txQLen 9", "it has mtu 1500, txQLen 1000 now"},
		{`"mac":"00:00:00:00:00:00"`, "eth0: set mac 00:00:00:00:00:00", "does not take"},
		{`"sysctl":{"net.ipv4.conf.IFNAME.nonesuch":"1"}`, "there is no such setting", "below /proc/sys/net in the sandbox"},
	} {
		_, failure := a.Then(t, tuning(tt.keys)).TryAdd(t)
		if failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Msg, tt.says) || !strings.Contains(failure.Details, tt.hint) {
			t.Errorf("%s: %v", tt.keys, failure)
		}
	}
	byArgs := a.Then(t, tuning(""))
	byArgs.Args = "MAC=x"
	if _, failure := byArgs.TryAdd(t); failure == nil || failure.Code != cni.CodeInvalidEnvironment {
		t.Errorf("MAC=x: %v", failure)
	}
	if _, failure := a.Again(t, tuning(""), "eth0").TryAdd(t); failure == nil || !strings.Contains(failure.Error(), "prevResult is missing") {
		t.Errorf("without prevResult: %v", failure)
	}
	host.Unchanged(t, before)
	if got := look(t, a.NetNS, "eth0"); got != link {
		t.Errorf("the interface is %+v, was %+v", got, link)
	}
}

// TestFailureIsUndone fails in the last step.
func TestFailureIsUndone(t *testing.T) {
	a := container(t, "undone")
	before, link, value := host.Snapshot(t), look(t, a.NetNS, "eth0"), sysctl(t, a.NetNS, "core/somaxconn")
	for _, keys := range []string{
		`"sysctl":{"net.core.somaxconn":"500","net.core.nosuchthing":"1"}`,
		`"sysctl":{"net.core.somaxconn":"500"},"mac":"c2:11:22:33:44:55","mtu":70000`,
	} {
		if _, failure := a.Then(t, tuning(keys)).TryAdd(t); failure == nil {
			t.Errorf("%s is accepted", keys)
		}
		if got := sysctl(t, a.NetNS, "core/somaxconn"); got != value {
			t.Errorf("%s: somaxconn is %s, was %s", keys, got, value)
		}
		if got := look(t, a.NetNS, "eth0"); got != link {
			t.Errorf("%s: the interface is %+v, was %+v", keys, got, link)
		}
	}
	host.Unchanged(t, before)
}

// TestAllowlist has the node allow some settings.
func TestAllowlist(t *testing.T) {
	const file = "/etc/cni/tuning/allowlist.conf"
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	a := container(t, "allowed")
	for _, tt := range []struct {
		list, key string
		code      cni.Code // 0: allowed
	}{
		{"^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n\n ^net\\.core\\. \n", "net.core.somaxconn", 0},
		{"^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n", "net.ipv4.conf.IFNAME.arp_filter", 0},
		{"^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n", "net/ipv4/conf/IFNAME/arp_filter", 0},
		{"^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n", "net.core.somaxconn", cni.CodeInvalidConfig},
		{"^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n", "net.ipv4.conf.eth0.arp_filter", cni.CodeInvalidConfig},
		{"", "net.core.somaxconn", cni.CodeInvalidConfig},
		{"(", "net.core.somaxconn", cni.CodeInvalidConfig},
	} {
		if err := os.WriteFile(file, []byte(tt.list), 0o644); err != nil {
			t.Fatal(err)
		}
		b := a.Then(t, tuning(`"sysctl":{"`+tt.key+`":"1"}`))
		_, failure := b.TryAdd(t)
		if tt.code == 0 && failure != nil || tt.code != 0 && (failure == nil || failure.Code != tt.code || !strings.Contains(failure.Error(), file)) {
			t.Errorf("%q, %s: %v", tt.list, tt.key, failure)
		}
		b.Del(t)
	}
}

// TestTwice has the plugin twice in a list: DEL gives back what was before the
// first.
func TestTwice(t *testing.T) {
	for _, second := range []string{`"mtu":1400,"sysctl":{"net.core.somaxconn":"600"}`, `"mtu":1400,"txQLen":9,"sysctl":{"net.core.somaxconn":"600"}`} {
		a := container(t, "twice")
		before, value := look(t, a.NetNS, "eth0"), sysctl(t, a.NetNS, "core/somaxconn")
		b := a.Then(t, tuning(`"mtu":1450,"sysctl":{"net.core.somaxconn":"500"}`))
		b.Add(t)
		c := b.Then(t, tuning(second))
		c.Add(t)
		c.Check(t)
		c.Del(t)
		b.Del(t)
		if got := look(t, a.NetNS, "eth0"); got != before {
			t.Errorf("%s: the interface is %+v, was %+v", second, got, before)
		}
		if got := sysctl(t, a.NetNS, "core/somaxconn"); got != value {
			t.Errorf("%s: somaxconn is %s, was %s", second, got, value)
		}
		a.Del(t)
	}
}

// TestDel deletes attachments of which something is gone or other.
func TestDel(t *testing.T) {
	const keys = `"mac":"c2:11:22:33:44:55","mtu":1400,"sysctl":{"net.core.somaxconn":"500"}`
	for _, tt := range []struct {
		name     string
		lose     func(t *testing.T, a, b *attach.Attachment)
		restores bool
	}{
		{"prevResult", func(_ *testing.T, _, b *attach.Attachment) { b.Prev = nil }, true},
		{"configuration", func(_ *testing.T, _, b *attach.Attachment) { b.Config = tuning("") }, true},
		{"configuration that is read", func(_ *testing.T, _, b *attach.Attachment) { b.Config = tuning(`"mtu":"large"`) }, true},
		{"namespace's path", func(_ *testing.T, _, b *attach.Attachment) { b.NetNS = "" }, true},
		{"record", func(t *testing.T, _, _ *attach.Attachment) {
			host.Run(t, "sh", "-c", "rm /run/plumb/attachments/tuning@*")
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := container(t, "deleted")
			before := look(t, a.NetNS, "eth0")
			b := a.Then(t, tuning(keys))
			b.Add(t)
			tuned := look(t, a.NetNS, "eth0")
			tt.lose(t, a, b)
			b.Del(t)
			b.Del(t)
			got := look(t, a.NetNS, "eth0")
			if tt.restores && got != before || !tt.restores && got != tuned {
				t.Errorf("the interface is %+v, was %+v and then %+v", got, before, tuned)
			}
		})
	}
	t.Run("namespace", func(t *testing.T) {
		before := host.Snapshot(t)
		a := container(t, "destroyed")
		b := a.Then(t, tuning(keys))
		b.Add(t)
		host.RemoveNetNS(t, a.NetNS)
		b.Del(t)
		a.Del(t)
		host.Unchanged(t, before, host.SharedFiles, host.SharedForwarding)
	})
	t.Run("namespace whose path is another's", func(t *testing.T) {
		a := container(t, "former")
		b := a.Then(t, tuning(keys))
		b.Add(t)
		other := container(t, "later")
		was := look(t, other.NetNS, "eth0")
		host.RemoveNetNS(t, a.NetNS)
		b.NetNS = other.NetNS
		b.Del(t)
		if got := look(t, other.NetNS, "eth0"); got != was {
			t.Errorf("another's interface is %+v, was %+v", got, was)
		}
	})
}

// TestGC forgets attachments that are not valid, and gives back what they changed.
func TestGC(t *testing.T) {
	a, gone := container(t, "valid"), container(t, "stale")
	before := look(t, gone.NetNS, "eth0")
	b, c := a.Then(t, tuning(`"mtu":1400`)), gone.Then(t, tuning(`"mtu":1400`))
	b.Add(t)
	c.Add(t)
	b.GC(t, b)
	b.Check(t)
	if got := look(t, gone.NetNS, "eth0"); got != before {
		t.Errorf("the interface is %+v, was %+v", got, before)
	}
}

// TestReference switches from the reference to ours and back.
func TestReference(t *testing.T) {
	keys.Covers(t, "tuning", "dataDir")
	reference := host.Reference(t)
	const changes = `"mac":"c2:11:22:33:44:55","mtu":1400,"promisc":true,"allmulti":true,"txQLen":5,"sysctl":{"net.core.somaxconn":"500"}`
	for _, dir := range []string{"", t.TempDir()} {
		config, file := tuning(changes), "/run/cni/tuning/its_eth0.json"
		if dir != "" {
			config, file = tuning(changes+`,"dataDir":"`+dir+`"`), dir+"/its_eth0.json"
		}
		a := container(t, "its")
		before := look(t, a.NetNS, "eth0")
		b := a.Then(t, config)
		b.Bin = reference
		b.Add(t)
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		b.Bin = host.Bin(t)
		b.Check(t)
		b.Del(t)
		if got := look(t, a.NetNS, "eth0"); got != before {
			t.Errorf("the interface is %+v, was %+v", got, before)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is still there", file)
		}
		a.Del(t)
	}
	t.Run("by a path that is another's", func(t *testing.T) {
		a, other := container(t, "its"), container(t, "other")
		was := look(t, other.NetNS, "eth0")
		b := a.Then(t, tuning(changes))
		b.Bin = reference
		b.Add(t)
		b.Bin, b.NetNS = host.Bin(t), other.NetNS
		b.Del(t)
		if got := look(t, other.NetNS, "eth0"); got != was {
			t.Errorf("another's interface is %+v, was %+v", got, was)
		}
	})
	t.Run("back", func(t *testing.T) {
		a := container(t, "ours")
		b := a.Then(t, tuning(changes))
		b.Add(t)
		b.Bin = reference
		if failure := b.TryCheck(t); failure != nil {
			t.Errorf("the reference's CHECK: %v", failure)
		}
		if failure := b.TryDel(t); failure != nil {
			t.Errorf("the reference's DEL: %v", failure)
		}
	})
}
