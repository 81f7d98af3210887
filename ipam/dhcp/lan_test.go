package dhcp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// An output collects what a process writes while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// A process runs until the test ends.
type process struct {
	*exec.Cmd
	output
	wait func() error
}

func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(name, args...)}
	p.Stdout, p.Stderr = &p.output, &p.output
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.wait = sync.OnceValue(p.Wait)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(name), p)
		}
	})
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill() // it may have ended
	_ = p.wait()
}

func (p *process) String() string { return p.output.String() }

// until waits for a condition.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// A lan is a bridge of the host to which a server's namespace is connected.
type lan struct {
	bridge string
	server string // path of the server's namespace
}

var lans int

const lan4, lan6 = "10.99.0.1/24", "fd00:99::1/64"

// newLAN makes a network of which the server has the first addresses, by an
// interface srv.
func newLAN(t testing.TB) *lan {
	t.Helper()
	lans++
	l := &lan{bridge: fmt.Sprintf("lan%d", lans), server: host.NetNS(t)}
	host.Run(t, "ip", "link", "add", l.bridge, "type", "bridge")
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", l.bridge) })
	host.Run(t, "ip", "link", "add", l.bridge+"s", "type", "veth", "peer", "name", "srv", "netns", filepath.Base(l.server))
	host.Run(t, "ip", "link", "set", l.bridge+"s", "master", l.bridge, "addrgenmode", "none", "up")
	host.Run(t, "ip", "link", "set", l.bridge, "up")
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", l.bridge+"s") }) // which would go some time after its namespace
	host.RunIn(t, l.server, "ip", "addr", "add", lan4, "dev", "srv")
	host.RunIn(t, l.server, "ip", "addr", "add", lan6, "dev", "srv", "nodad")
	host.RunIn(t, l.server, "ip", "link", "set", "srv", "up")
	host.RunIn(t, l.server, "ip", "link", "set", "lo", "up")
	return l
}

// A dnsmasq is a DHCP server of the network.
type dnsmasq struct {
	*process
	leases string
}

// dnsmasq starts a server with more options than it has anyway.
func (l *lan) dnsmasq(t testing.TB, options ...string) *dnsmasq {
	t.Helper()
	s := &dnsmasq{leases: filepath.Join(t.TempDir(), "leases")}
	s.process = start(t, "nsenter", append([]string{
		"--net=" + l.server, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=srv", "--bind-interfaces",
		"--user=root", "--pid-file=", "--log-facility=-", "--log-dhcp", "--no-ping", "--dhcp-leasefile=" + s.leases,
		"--dhcp-range=10.99.0.50,10.99.0.150,255.255.255.0,2m",
	}, options...)...)
	until(t, "dnsmasq", func() bool { return strings.Contains(s.String(), "sockets bound exclusively") })
	return s
}

// v6 are the options that make dnsmasq a server of DHCPv6 and a router.
func v6() []string { return []string{"--dhcp-range=fd00:99::50,fd00:99::150,64,2m", "--enable-ra"} }

// leased returns the lines of the server's database that hold an address.
func (s *dnsmasq) leased(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(s.leases)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}

// has tells whether the server has leased an address that begins so.
func (s *dnsmasq) has(t testing.TB, addr string) bool {
	t.Helper()
	return strings.Contains(s.leased(t), " "+addr)
}

// count returns how often the server's log has a message, such as "DHCPREQUEST(srv)".
func (s *dnsmasq) count(message string) int { return strings.Count(s.String(), " "+message+" ") }

// A daemon is ours on a socket of its own.
type daemon struct {
	*process
	socket string
	flags  []string
}

func newDaemon(t testing.TB, flags ...string) *daemon {
	t.Helper()
	d := &daemon{socket: filepath.Join(t.TempDir(), "dhcp.sock"), flags: flags}
	d.start(t)
	return d
}

// start starts it, perhaps again.
func (d *daemon) start(t testing.TB) {
	t.Helper()
	args := append([]string{"daemon", "-socketpath", d.socket, "-timeout", "4s", "-resendtimeout", "8s"}, d.flags...)
	d.process = start(t, filepath.Join(host.Bin(t), "dhcp"), args...)
	until(t, "the daemon's answer", func() bool {
		_, failure := execute(t, "STATUS", "dhcp", nil, fmt.Sprintf(`{"cniVersion":"1.1.0","name":"n","type":"x","ipam":{"type":"dhcp","daemonSocketPath":%q}}`, d.socket))
		return failure == nil
	})
}

// leases returns what the daemon has on disk, by file.
func (d *daemon) leases(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob(d.socket + ".leases/*.json")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found[f] = string(data)
	}
	return found
}

// execute calls a plugin and returns what it printed, or its error.
func execute(t testing.TB, verb, plugin string, env []string, config string) (string, *cni.Error) {
	t.Helper()
	env = append(slices.Clone(env), host.Env(verb, "", "", "", host.Bin(t))...)
	stdout, stderr, exit := host.Plugin(t, host.Bin(t), plugin, env, config)
	if exit == 0 {
		return stdout, nil
	}
	failure, err := cni.DecodeError([]byte(stdout))
	if err != nil {
		t.Fatalf("%s %s: exit status %d and no error: %s%s", plugin, verb, exit, stdout, stderr)
	}
	return "", failure
}

// An attachment is an interface of a container.
type attachment struct {
	plugin, config string
	id, netns      string
	args           string
	prev           string // what ADD printed
}

var ids int

// attach returns an attachment to a network that is not added yet. ipam are
// keys of that section, more those of the configuration.
func (l *lan) attach(t testing.TB, d *daemon, ipam string, more ...string) *attachment {
	t.Helper()
	ids++
	if ipam != "" {
		ipam = "," + ipam
	}
	config := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":"bridge","bridge":%q,"ipam":{"type":"dhcp","daemonSocketPath":%q%s}`, l.bridge, d.socket, ipam)
	for _, m := range more {
		config += "," + m
	}
	a := &attachment{plugin: "bridge", config: config + "}", id: fmt.Sprintf("c%d", ids), netns: host.NetNS(t)}
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		a.call(t, "DEL", a.config) //nolint:errcheck // for what the test has left
	})
	return a
}

func (a *attachment) call(t testing.TB, verb, config string) (string, *cni.Error) {
	t.Helper()
	env := []string{"CNI_CONTAINERID=" + a.id, "CNI_IFNAME=eth0"}
	if a.netns != "" {
		env = append(env, "CNI_NETNS="+a.netns)
	}
	if a.args != "" {
		env = append(env, "CNI_ARGS="+a.args)
	}
	return execute(t, verb, a.plugin, env, config)
}

// add returns the result of ADD.
func (a *attachment) add(t testing.TB) *cni.Result {
	t.Helper()
	out, failure := a.call(t, "ADD", a.config)
	if failure != nil {
		t.Fatalf("ADD %s: %v", a.id, failure)
	}
	a.prev = out
	result, err := cni.DecodeResult([]byte(out), cni.Latest)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (a *attachment) withPrev(t testing.TB) string {
	t.Helper()
	config, err := cni.Derive([]byte(a.config), map[string]any{"prevResult": json.RawMessage(a.prev)})
	if err != nil {
		t.Fatal(err)
	}
	return string(config)
}

func (a *attachment) check(t testing.TB) *cni.Error {
	t.Helper()
	_, failure := a.call(t, "CHECK", a.withPrev(t))
	return failure
}

func (a *attachment) del(t testing.TB) {
	t.Helper()
	if _, failure := a.call(t, "DEL", a.withPrev(t)); failure != nil {
		t.Fatalf("DEL %s: %v", a.id, failure)
	}
}

// onLink returns the addresses on eth0 that are not link-local.
func (a *attachment) onLink(t testing.TB) []string {
	t.Helper()
	var list []string
	for _, addr := range host.Addrs(t, a.netns) {
		if addr.Dev == "eth0" && !addr.Prefix.Addr().IsLinkLocalUnicast() {
			list = append(list, addr.Prefix.String())
		}
	}
	return list
}

// kill9 ends the daemon at once and waits until it has.
func (d *daemon) kill9(t testing.TB) {
	t.Helper()
	if err := d.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = d.wait()
}

// matches fails the test unless text matches a pattern.
func matches(t testing.TB, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%s does not match:\n%s", pattern, text)
	}
}
